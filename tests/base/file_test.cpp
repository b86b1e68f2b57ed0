#include "diffuse/base/file.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "testing.hpp"

namespace diffuse {
namespace {

namespace fs = std::filesystem;

/// Runs `action` in another process, and there only.
pid_t in_child(const std::function<void()>& action) {
    const pid_t child = fork();
    if (child == 0) {
        action();
        _exit(0);
    }
    return child;
}

TEST(WriteFile, ReplacesWhatALinkPointsAtAndKeepsItsMode) {
    const TemporaryFolder folder;
    write_file(folder / "target", "old");
    std::filesystem::permissions(folder / "target", std::filesystem::perms(0640));
    std::filesystem::create_symlink("target", folder / "link");
    require_writable(folder / "link");
    write_file(folder / "link", "new");
    EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
    EXPECT_EQ(read_file(folder / "target", 10), "new");
    EXPECT_EQ(std::filesystem::status(folder / "target").permissions(), std::filesystem::perms(0640));
}

TEST(WriteFile, MakesTheTargetOfALinkThatPointsAtNothingYetAndRefusesALoop) {
    const TemporaryFolder folder;
    fs::create_symlink("target", folder / "link");
    fs::create_symlink("link", folder / "second");
    write_file(folder / "second", "new");
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_EQ(read_file(folder / "target", 10), "new");
    fs::create_symlink("loop", folder / "loop");
    expect_contains(error_of([&] { write_file(folder / "loop", "x"); }), "too many symbolic links");
    expect_contains(error_of([&] { require_writable(folder / "loop"); }), "too many symbolic links");
    EXPECT_TRUE(fs::is_symlink(folder / "loop"));
}

TEST(WriteFile, TakesNamesAsLongAsTheSystemDoes) {
    const TemporaryFolder folder;
    const std::string name(255, 'n');
    write_file(folder / name, "x");
    EXPECT_EQ(read_file(folder / name, 10), "x");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(ReadFile, ReadsAPipeToItsEnd) {
    const TemporaryFolder folder;
    ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
    const std::string sent(200'000, 'x');
    std::thread writer([&] { std::ofstream(folder / "pipe") << sent; });
    EXPECT_EQ(read_file(folder / "pipe", 1 << 20), sent);
    writer.join();
    signal(SIGPIPE, SIG_IGN);  // as the program has it
    std::thread again([&] { std::ofstream(folder / "pipe") << sent; });
    expect_contains(error_of([&] { read_file(folder / "pipe", 1000); }), "more than the 1000 bytes");
    again.join();
}

TEST(FolderLock, FollowsAFolderThatIsMovedAndTellsWhenItIsGone) {
    const TemporaryFolder folder;
    fs::create_directory(folder / "a");
    const FolderLock lock(folder / "a");
    EXPECT_EQ(lock.folder(), folder / "a");
    fs::rename(folder / "a", folder / "b");
    EXPECT_EQ(lock.folder(), folder / "b");
    fs::create_directory(folder / "a");
    const FolderLock other(folder / "a");  // somebody else's, at the old place
    EXPECT_EQ(lock.folder(), folder / "b");
    fs::remove(folder / "b" / ".lock");
    expect_contains(error_of([&] { lock.folder(); }), "it was removed, or another folder took its place");
}

TEST(LineFile, RefusesWhatIsNoPlainFile) {
    const TemporaryFolder folder;
    ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_THROW(LineFile(folder / "pipe"), Error);  // and does not wait for a reader
}

TEST(ShellWord, IsReadBackByAShell) {
    for (const std::string word : {"plain/path-1.png", "two words", "it's", "", "$HOME", "a\nb", "*", "~"}) {
        const std::string command = "printf %s " + shell_word(word);
        FILE* const shell = popen(command.c_str(), "r");
        char buffer[100] = {};
        const size_t length = fread(buffer, 1, sizeof buffer, shell);
        pclose(shell);
        EXPECT_EQ(std::string(buffer, length), word);
    }
}

TEST(WriteFile, WritesIntoAPipe) {
    const TemporaryFolder folder;
    ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
    require_writable(folder / "pipe");
    std::string received;
    std::thread reader(
        [&] { received = std::string(std::istreambuf_iterator<char>(std::ifstream(folder / "pipe").rdbuf()), {}); });
    write_file(folder / "pipe", "through");
    reader.join();
    EXPECT_EQ(received, "through");
    EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
}

TEST(WriteFile, LeavesTheOldFileOrTheNewOneWheneverItsProcessIsKilled) {
    constexpr int kKills = 200;
    constexpr size_t kSize = 4 << 20;  // large enough that most of the time goes into writing
    const TemporaryFolder folder;
    const fs::path path = folder / "file";
    write_file(path, std::string(kSize, 'a'));
    const unsigned seed = 4;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    int cut_short = 0;
    for (int i = 0; i < kKills; ++i) {
        const pid_t child = in_child([&] {
            for (char letter = 'a';; letter = letter == 'z' ? 'a' : char(letter + 1)) {
                write_file(path, std::string(kSize, letter));
            }
        });
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
        const std::string found = read_file(path, kSize);
        ASSERT_EQ(found.size(), kSize);
        ASSERT_EQ(found.find_first_not_of(found[0]), std::string::npos) << "a mixture of two files";
        cut_short += std::distance(fs::directory_iterator(folder.path()), {}) > 1;
        remove_temporaries(folder.path());
        ASSERT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
    }
    EXPECT_GT(cut_short, 0) << "no kill came amid a write: this test proved nothing";
    RecordProperty("kills_amid_a_write", cut_short);
    std::cout << cut_short << " of " << kKills << " kills came amid a write\n";
}

/// Files can grow to `bytes` and no further while this lives: the nearest thing to a full disk that needs no root.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) {
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

private:
    rlimit before_;
};

TEST(WriteFile, LeavesTheOldFileAndNoOtherWhenTheDiskIsFull) {
    const TemporaryFolder folder;
    write_file(folder / "file", "old");
    {
        const FileSizeLimit limit(1000);
        expect_contains(error_of([&] { write_file(folder / "file", std::string(2000, 'x')); }), "cannot write");
    }
    EXPECT_EQ(read_file(folder / "file", 100), "old");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(LineFileTest, TakesBackALineThatDoesNotFitOnTheDisk) {
    const TemporaryFolder folder;
    LineFile file(folder / "lines");
    file.append("first");
    {
        const FileSizeLimit limit(12);
        expect_contains(error_of([&] { file.append("a line that is too long"); }), "cannot write");
    }
    file.append("last");
    EXPECT_EQ(read_file(folder / "lines", 100), "first\nlast\n");
}

TEST(LineFileTest, GoesOnWhereAnotherEnded) {
    const TemporaryFolder folder;
    LineFile(folder / "lines").append("one");
    LineFile(folder / "lines").append("two");
    EXPECT_EQ(read_file(folder / "lines", 100), "one\ntwo\n");
}

TEST(FolderLockTest, DiesWithItsProcess) {
    const TemporaryFolder folder;
    const pid_t child = in_child([&] {
        const FolderLock lock(folder.path());
        write_file(folder / "ready", "");
        pause();
    });
    while (!path_exists(folder / "ready")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    expect_contains(error_of([&] { FolderLock lock(folder.path()); }), "another training is at work");
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    FolderLock lock(folder.path());
}

TEST(RequireWritable, FindsOutBeforeTheWork) {
    const TemporaryFolder folder;
    const auto problem = [&](const fs::path& path) { return error_of([&] { require_writable(path); }); };
    expect_contains(problem(""), "empty");
    expect_contains(problem(folder.path()), "it is a folder");
    expect_contains(problem(folder / "no" / "file"), "there is no folder");
    expect_contains(problem(folder / std::string(300, 'n')), "File name too long");
    write_file(folder / "file", "");
    expect_contains(problem(folder / "file" / "file"), "there is no folder");
    require_writable(folder / "file");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(RemoveTemporaries, RemovesOursAndNoOthers) {
    const TemporaryFolder folder;
    for (const char* name : {"a.png.17.tmp", "b.tmp", "c.x.tmp", "17.tmp", "d.17"}) write_file(folder / name, "");
    remove_temporaries(folder.path());
    EXPECT_FALSE(path_exists(folder / "a.png.17.tmp"));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 4);
}

}  // namespace
}  // namespace diffuse
