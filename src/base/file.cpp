#include "diffuse/base/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail(std::string_view what, const fs::path& path, ExitCode code = kRunFailed) {
    throw Error(fmt::format("cannot {} {}: {}", what, display_path(path), std::strerror(errno)), code);
}

void write_all(const Descriptor& file, std::string_view bytes, const fs::path& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail("write", path);
        bytes.remove_prefix(size_t(written));
    }
}

/// Makes a new name survive a power cut. Some file systems cannot do it, which is no reason to fail.
void flush_folder_of(const fs::path& path) {
    const Descriptor folder(open(fs::absolute(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder) fsync(folder.get());
}

/// Where a symbolic link ends, so that what it points at is replaced and not the link.
fs::path behind_links(const fs::path& path) {
    std::error_code error;
    if (!fs::is_symlink(path, error)) return path;
    const fs::path target = fs::weakly_canonical(path, error);
    return error ? path : target;
}

/// A file under construction; removed again unless `commit` was reached. It gets the mode of the file it replaces.
class TemporaryFile {
public:
    explicit TemporaryFile(const fs::path& target)
        : target_(target),
          path_(target.string() + fmt::format(".{}.tmp", getpid())),
          file_(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
        if (!file_) fail("write", target_);
        struct stat before {};
        if (stat(target_.c_str(), &before) == 0) fchmod(file_.get(), before.st_mode & 07777);
    }
    ~TemporaryFile() {
        if (!committed_) unlink(path_.c_str());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    void put(std::string_view bytes) { write_all(file_, bytes, target_); }

    void commit() {
        if (fsync(file_.get()) != 0) fail("flush to disk", target_);
        if (!file_.close()) fail("close", target_);
        if (rename(path_.c_str(), target_.c_str()) != 0) fail("rename a temporary file to", target_);
        committed_ = true;
        flush_folder_of(target_);
    }

private:
    fs::path target_, path_;
    Descriptor file_;
    bool committed_ = false;
};

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
}

Descriptor::~Descriptor() { close(); }

bool Descriptor::close() { return value_ < 0 || ::close(std::exchange(value_, -1)) == 0; }

std::string display_path(const fs::path& path) {
    std::error_code error;
    const fs::path absolute = fs::absolute(path, error);
    if (error || path.empty()) return fmt::format("'{}'", path.string());
    const fs::path normal = absolute.lexically_normal();
    return (normal.has_filename() ? normal : normal.parent_path()).string();
}

bool path_exists(const fs::path& path) {
    std::error_code error;
    return fs::exists(path, error);
}

bool is_folder(const fs::path& path) {
    std::error_code error;
    return fs::is_directory(path, error);
}

bool is_special(const fs::path& path) {
    std::error_code error;
    const auto status = fs::status(path, error);
    return fs::exists(status) && !fs::is_regular_file(status);
}

void write_file(const fs::path& path, const std::function<void(const Put&)>& write) {
    const fs::path target = behind_links(path);
    if (is_special(target)) {
        const Descriptor file(open(target.c_str(), O_WRONLY | O_CLOEXEC));
        if (!file) fail("write", target);
        return write([&](std::string_view bytes) { write_all(file, bytes, target); });
    }
    TemporaryFile file(target);
    write([&](std::string_view bytes) { file.put(bytes); });
    file.commit();
}

void write_file(const fs::path& path, std::string_view bytes) {
    write_file(path, [&](const Put& put) { put(bytes); });
}

std::string read_file(const fs::path& path, uintmax_t max_bytes) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat status {};
    if (!file || fstat(file.get(), &status) != 0) {
        throw Error(fmt::format("cannot read {}: {}", display_path(path), std::strerror(errno)));
    }
    if (!S_ISREG(status.st_mode)) throw Error(fmt::format("cannot read {}: it is not a file", display_path(path)));
    if (uintmax_t(status.st_size) > max_bytes) {
        throw Error(fmt::format("{}: {} bytes, more than the {} expected of such a file", display_path(path),
                                status.st_size, max_bytes));
    }
    std::string bytes(size_t(status.st_size), '\0');
    size_t filled = 0;
    while (filled < bytes.size()) {
        const ssize_t count = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) throw Error(fmt::format("cannot read {} to its end", display_path(path)));
        filled += size_t(count);
    }
    return bytes;
}

void remove_temporaries(const fs::path& folder) {
    const auto is_number = [](const std::string& text) {
        return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    };
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        const fs::path name = entry.path().filename(), stem = name.stem();
        const bool ours =
            name.extension() == ".tmp" && stem.has_extension() && is_number(stem.extension().string().substr(1));
        if (ours) fs::remove(entry.path(), error);
    }
}

LineFile::LineFile(const fs::path& path)
    : path_(path), file_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
    if (!file_) fail("write", path_);
}

void LineFile::append(std::string_view line) {
    const off_t before = lseek(file_.get(), 0, SEEK_END);
    try {
        write_all(file_, std::string(line) + '\n', path_);
    } catch (const Error&) {
        if (ftruncate(file_.get(), before) != 0) fail("write", path_);
        throw;
    }
}

void LineFile::flush_to_disk() {
    if (fsync(file_.get()) != 0) fail("flush to disk", path_);
}

FolderLock::FolderLock(const fs::path& folder)
    : file_(open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (!file_) fail("write", folder / ".lock", kBadInput);
    // A file system that knows no locks (some network ones) gives another error, and must not keep anyone from work.
    if (flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        throw Error(fmt::format("another training is at work in {}; wait for it, or take another folder",
                                display_path(folder)));
    }
}

void create_folder(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path, error);
    if (error) throw Error(fmt::format("cannot create the folder {}: {}", display_path(path), error.message()));
}

void require_writable(const fs::path& path) {
    if (path.empty()) throw Error("an output path is empty");
    const fs::path folder = fs::absolute(path).parent_path();
    if (!is_folder(folder)) {
        throw Error(fmt::format("cannot write {}: there is no folder {}", display_path(path), folder.string()));
    }
    if (is_folder(path)) throw Error(fmt::format("cannot write {}: it is a folder", display_path(path)));
    const fs::path target = behind_links(path);
    if (is_special(target)) {
        if (access(target.c_str(), W_OK) != 0) fail("write", target, kBadInput);
        return;
    }
    try {
        TemporaryFile probe(target);
    } catch (const Error& error) {
        throw Error(error.what(), kBadInput);
    }
}

}  // namespace diffuse
