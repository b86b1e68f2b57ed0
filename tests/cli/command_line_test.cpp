// Every line of wrong_commands.txt, in this process: what is wrong is said in one line, before work begins, and leaves
// nothing behind.

#include <zlib.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "cli/program.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/png.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

struct Ran {
    int code;
    std::string out, log;
};

Ran run_line(const std::vector<std::string>& arguments) {
    std::ostringstream out, log;
    const int code = cli::run(arguments, {out, &log});
    return {code, out.str(), log.str()};
}

/// The words of a line, of which '' and '...' are one.
std::vector<std::string> words_of(const std::string& line) {
    static const std::regex word(R"('([^']*)'|(\S+))");
    std::vector<std::string> words;
    for (std::sregex_iterator match(line.begin(), line.end(), word), end; match != end; ++match) {
        words.push_back((*match)[2].matched ? (*match)[2] : (*match)[1]);
    }
    return words;
}

/// All that lies in the current folder.
std::vector<std::string> files_here() {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(".")) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

/// A folder that is current while it lives.
class WorkFolder {
public:
    WorkFolder() : before_(std::filesystem::current_path()) { std::filesystem::current_path(folder_.path()); }
    ~WorkFolder() { std::filesystem::current_path(before_); }

private:
    TemporaryFolder folder_;
    std::filesystem::path before_;
};

void do_line(const std::string& line) {
    const Ran ran = run_line(words_of(line));
    if (ran.code != 0) throw std::runtime_error(line + ": " + ran.log);
}

torch::Tensor row_of_pixels(int64_t channels) {
    return torch::arange(28, torch::kUInt8).view({1, 1, 28}).expand({channels, 28, 28}).contiguous();
}

void write_images() {
    const auto grey = row_of_pixels(1), colour = row_of_pixels(3);
    write_png("grey.png", grey);
    colour[1].zero_();
    write_png("colour.png", colour);
    write_png("alpha.png", torch::cat({grey, torch::full_like(grey, 254)}));
    write_file("cut.png", read_file("grey.png", 1000).substr(0, 60));
    for (const char* folder : {"pets/cat", "pets/dog", "sizes"}) std::filesystem::create_directories(folder);
    for (int i = 0; i < 4; ++i) {
        for (const char* kind : {"cat", "dog"}) {
            write_png(fmt::format("pets/{}/{}.png", kind, i),
                      torch::full({3, 16, 12}, 10 * i, torch::kUInt8).index_put_({0}, kind[0]));
        }
    }
    write_png("sizes/1.png", torch::zeros({1, 8, 8}, torch::kUInt8));
    write_png("sizes/2.png", torch::zeros({1, 9, 8}, torch::kUInt8));
}

/// MNIST's four files with a few images of noise.
void write_mnist() {
    std::filesystem::create_directory("mnist");
    const std::string count("\0\0\0\x14", 4), side("\0\0\0\x1c", 4);  // 20 images of 28x28
    for (const char* part : {"train", "t10k"}) {
        std::string images(20 * 784, '\0'), labels(20, '\0');
        for (size_t i = 0; i < images.size(); ++i) images[i] = char(i * i % 251);
        for (size_t i = 0; i < labels.size(); ++i) labels[i] = char(i % 10);
        write_file(fmt::format("mnist/{}-images-idx3-ubyte", part),
                   std::string("\0\0\x08\x03", 4) + count + side + side + images);
        write_file(fmt::format("mnist/{}-labels-idx1-ubyte", part), std::string("\0\0\x08\x01", 4) + count + labels);
    }
}

void write_configs() {
    write_file("tiny.json", R"({"dataset": {"kind": "digits", "limit": 200},
        "model": {"base_channels": 8, "channel_multipliers": [1, 2], "attention_resolutions": [7], "patch_size": 2},
        "train": {"steps": 2, "batch_size": 16, "warmup_steps": 1, "sample_every": 0}})");
    write_file("points.json", R"({"dataset": {"kind": "two-moons", "limit": 1000}, "schedule": {"kind": "ve"},
        "model": {"kind": "mlp", "width": 32, "blocks": 2, "classes": 0},
        "train": {"steps": 2, "batch_size": 64, "warmup_steps": 1, "sample_every": 0}})");
    write_file("broken.json", "{\n\"seed\": }");
    write_file("twice.json", R"({"seed": 1, "seed": 2})");
    write_file("newline.json", R"({"a\nb": 1})");
    write_file("letter.csv", "a,b\n1,2\n3,x\n");
    write_file("row.csv", "a,b\n1,2\n");
    write_file("latin.csv", "gr\xf6sse,b\n1,2\n3,4\n");
    write_file("cut.npy", "\x93NUMPY\x01");
    std::string table = "size,colour\n";
    for (int i = 0; i < 50; ++i) table += fmt::format("{},{}\n", i % 7, i % 11);
    write_file("table.csv", table);
}

/// Trained networks, and what they sample and encode.
void make_runs() {
    do_line("train --config tiny.json --out runs/tiny");
    do_line("train --config tiny.json --out runs/seeded --seed 3");
    do_line(
        "train --config tiny.json --out spots --set dataset.kind=mnist --set dataset.dir=mnist --set dataset.limit=0");
    do_line(
        "train --config tiny.json --out pets-whole --set dataset.kind=images --set dataset.dir=pets "
        "--set dataset.limit=0 --set model.attention_resolutions=[4]");
    do_line("train --config points.json --out runs/points");
    do_line("train --config points.json --out runs/posterior --set dataset.kind=simulator --set model.classes=auto");
    do_line("sample --checkpoint runs/tiny --num 2 --steps 2 --out s.png --save-tensors a.safetensors");
    do_line("encode --checkpoint runs/tiny --input digits:test[0:2] --steps 2 --out l.safetensors");
}

void write_tensor_files() {
    const std::string whole = read_file("runs/tiny/checkpoint.safetensors", 100'000'000);
    write_file("cut.safetensors", whole.substr(0, 100));
    write_file("half.safetensors", whole.substr(0, 100'000));
    write_file("long.safetensors", whole + "\n");
    const auto latents = [](const char* name, int64_t side, double value, const std::string& sampling) {
        TensorFile file{{{"latents", torch::full({1, 1, side, side}, value)}}, {}};
        if (!sampling.empty()) file.metadata["sampling"] = sampling;
        write_tensor_file(name, file);
    };
    latents("small.safetensors", 8, 0, "");
    latents("nan.safetensors", 28, std::nan(""), "");
    latents("odd.safetensors", 28, 0, R"({"solv": 1})");
    latents("array.safetensors", 28, 0, "[]");
    latents("both.safetensors", 28, 0, R"({"steps": 2, "nfe": 2})");
}

/// Why a wrong command line was not refused as it should be; empty where it was.
std::string fault_of(const std::string& pattern, const std::string& line) {
    const auto before = files_here();
    const Ran ran = run_line(words_of(line));
    if (ran.code != 2) return fmt::format("exit code {}", ran.code);
    if (std::count(ran.log.begin(), ran.log.end(), '\n') != 1) return "not one line";
    if (!std::regex_search(ran.log, std::regex(pattern))) return "no '" + pattern + "'";
    if (!ran.out.empty()) return "something on stdout";
    if (files_here() != before) return "files left behind";
    return "";
}

TEST(CommandLine, RefusesEveryWrongOneInOneLineAndLeavesNothing) {
    const WorkFolder folder;
    setenv("XDG_CACHE_HOME", (std::filesystem::current_path() / "cache").c_str(), /*overwrite=*/1);
    write_configs();
    write_images();
    write_mnist();
    make_runs();
    write_tensor_files();
    std::ifstream table(DIFFUSE_TESTS "/cli/wrong_commands.txt");
    int count = 0;
    for (std::string row; std::getline(table, row);) {
        if (row.empty() || row.starts_with('#')) continue;
        const size_t bar = row.find('|');
        const std::string pattern = row.substr(0, bar), line = row.substr(bar + 1);
        const std::string fault = fault_of(pattern, line);
        EXPECT_TRUE(fault.empty()) << "diffuse " << line << ": " << fault << ": " << run_line(words_of(line)).log;
        ++count;
    }
    EXPECT_GE(count, 300);
}

TEST(CommandLine, AResultThatCannotBeWrittenIsAFailure) {
    std::ofstream full("/dev/full");
    std::ostringstream log;
    EXPECT_EQ(cli::run({"--version"}, {full, &log}), 1);
    expect_contains(log.str(), "cannot be written to standard output");
}

TEST(CommandLine, HelpAndVersionAreResults) {
    const Ran version = run_line({"--version"}), help = run_line({"sample", "--help"});
    EXPECT_EQ(version.code + help.code, 0);
    EXPECT_TRUE(version.out.starts_with("diffuse ")) << version.out;
    expect_contains(help.out, "Usage: diffuse sample");
    EXPECT_EQ(version.log + help.log, "");
}

TEST(CommandLine, AnswersWithoutACalculationWhatNeedsNone) {
    const auto answered = [](const std::string& line) {
        std::ostringstream out, log;
        const auto code = cli::answer(words_of(line), {out, &log});
        EXPECT_EQ(out.str().empty() && log.str().empty(), !code.has_value()) << line;
        return code;
    };
    for (const char* line : {"--version", "help", "help sample", "sample --help", "completion bash"}) {
        EXPECT_EQ(answered(line), 0) << line;
    }
    for (const char* line : {"", "trian", "sample --steps 0", "sample --stpes 3", "help nothing"}) {
        EXPECT_EQ(answered(line), 2) << line;
    }
    for (const char* line : {"info", "sample --checkpoint none", "train --config none"})
        EXPECT_EQ(answered(line), std::nullopt);
}

}  // namespace
}  // namespace diffuse
