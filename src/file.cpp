#include "diffuse/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "diffuse/error.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail(std::string_view what, const fs::path& path) {
    throw Error(fmt::format("cannot {} {}: {}", what, display_path(path), std::strerror(errno)), kRunFailed);
}

/// A file under construction; removed again unless `commit` was reached.
class TemporaryFile {
public:
    explicit TemporaryFile(const fs::path& target)
        : target_(target), path_(target.string() + fmt::format(".{}.tmp", getpid())) {
        descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (descriptor_ < 0) fail("write", target_);
    }
    ~TemporaryFile() {
        if (descriptor_ >= 0) close(descriptor_);
        if (!committed_) unlink(path_.c_str());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    void put(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) fail("write", target_);
            bytes.remove_prefix(size_t(written));
        }
    }

    void commit() {
        if (fsync(descriptor_) != 0) fail("flush to disk", target_);
        const int descriptor = std::exchange(descriptor_, -1);
        if (close(descriptor) != 0) fail("close", target_);
        if (rename(path_.c_str(), target_.c_str()) != 0) fail("rename a temporary file to", target_);
        committed_ = true;
        flush_folder();
    }

private:
    /// Makes the new name itself survive a power cut. Some file systems cannot do it, which is no reason to fail.
    void flush_folder() {
        const fs::path folder = fs::absolute(target_).parent_path();
        const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (descriptor < 0) return;
        fsync(descriptor);
        close(descriptor);
    }

    fs::path target_, path_;
    int descriptor_ = -1;
    bool committed_ = false;
};

}  // namespace

std::string display_path(const fs::path& path) {
    std::error_code error;
    const fs::path absolute = fs::absolute(path, error);
    return error || path.empty() ? fmt::format("'{}'", path.string()) : absolute.lexically_normal().string();
}

bool is_there(const fs::path& path) {
    std::error_code error;
    return fs::exists(path, error);
}

bool is_folder(const fs::path& path) {
    std::error_code error;
    return fs::is_directory(path, error);
}

void write_file(const fs::path& path, const std::function<void(const Put&)>& write) {
    TemporaryFile file(path);
    write([&](std::string_view bytes) { file.put(bytes); });
    file.commit();
}

void write_file(const fs::path& path, std::string_view bytes) {
    write_file(path, [&](const Put& put) { put(bytes); });
}

std::string read_file(const fs::path& path, uintmax_t most_bytes) {
    struct Descriptor {
        int value;
        ~Descriptor() {
            if (value >= 0) close(value);
        }
    } const file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat status {};
    if (file.value < 0 || fstat(file.value, &status) != 0) {
        throw Error(fmt::format("cannot read {}: {}", display_path(path), std::strerror(errno)));
    }
    if (!S_ISREG(status.st_mode)) throw Error(fmt::format("cannot read {}: it is not a file", display_path(path)));
    if (uintmax_t(status.st_size) > most_bytes) {
        throw Error(fmt::format("{}: {} bytes, more than the {} expected of such a file", display_path(path),
                                status.st_size, most_bytes));
    }
    std::string bytes(size_t(status.st_size), '\0');
    size_t filled = 0;
    while (filled < bytes.size()) {
        const ssize_t count = read(file.value, bytes.data() + filled, bytes.size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) throw Error(fmt::format("cannot read {} to its end", display_path(path)));
        filled += size_t(count);
    }
    return bytes;
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
    if (access(folder.c_str(), W_OK | X_OK) != 0) {
        throw Error(fmt::format("cannot write {}: {}", display_path(path), std::strerror(errno)));
    }
}

}  // namespace diffuse
