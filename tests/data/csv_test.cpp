#include "diffuse/data/csv.hpp"

#include <bit>
#include <limits>

#include "diffuse/base/file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using Names = std::vector<std::string>;

NumberTable table_of(const Names& columns, std::vector<double> numbers) {
    const auto width = int64_t(columns.size());
    return {columns, torch::from_blob(numbers.data(), {std::ssize(numbers) / width, width}, torch::kFloat64).clone()};
}

std::vector<double> numbers_of(const NumberTable& table) {
    const auto* first = table.values.data_ptr<double>();
    return {first, first + table.values.numel()};
}

/// The numbers of a column called x.
std::vector<double> parse_column(const std::string& rows) { return numbers_of(parse_csv("x\n" + rows, "file")); }

class Csv : public testing::Test {
protected:
    NumberTable there_and_back(const NumberTable& table, bool as_float32 = false) {
        write_csv(folder / "table.csv", table, as_float32);
        return read_csv(folder / "table.csv");
    }
    std::string written(const NumberTable& table, bool as_float32 = false) {
        write_csv(folder / "table.csv", table, as_float32);
        return read_file(folder / "table.csv", 1 << 20);
    }
    TemporaryFolder folder;
};

TEST_F(Csv, ReadsNumbersUnderTheirNames) {
    const auto table = parse_csv("theta,y1,y2\n1,-2.5,3e2\n+4,.5,6.\n", "file");
    EXPECT_EQ(table.columns, (Names{"theta", "y1", "y2"}));
    EXPECT_EQ(table.values.scalar_type(), torch::kFloat64);
    EXPECT_TRUE(torch::equal(table.values, torch::tensor({{1.0, -2.5, 300.0}, {4.0, 0.5, 6.0}}, torch::kFloat64)));
}

TEST_F(Csv, TakesWhatOtherProgramsWrite) {
    const auto expected = table_of({"a", "b"}, {1, 2, 3, 4});
    const std::vector<std::string> files = {
        "a,b\n1,2\n3,4",          // no newline at the end
        "a,b\r\n1,2\r\n3,4\r\n",  // of Windows
        "a,b\r\n1,2\r\n3,4\r",    // cut inside its last line's end
        "\xef\xbb\xbf"
        "a,b\n1,2\n3,4\n",                      // with a byte order mark
        "\xef\xbb\xbf\"a\",b\n1,2\n3,4\n",      // and a quote behind it
        " a ,\tb \n 1 , 2\n3\t,  4  \n",        // spaces
        "\"a\",\"b\"\n\"1\",\"2\"\n\"3\",4\n",  // all in quotes
        " \"a\" , \"b\" \r\n \" 1 \" ,2\r\n3,\"4\"\r\n",
        "a,b\n1,2\n3,4\n\n\n",  // empty lines at the end
        "a,b\r\n1,2\r\n3,4\r\n\r\n  \r\n\t",
    };
    for (const auto& file : files) {
        const auto table = parse_csv(file, "file");
        EXPECT_EQ(table.columns, expected.columns) << file;
        EXPECT_TRUE(torch::equal(table.values, expected.values)) << file;
    }
}

TEST_F(Csv, NamesMayHoldAnythingInQuotes) {
    const auto table = parse_csv("\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\"\"\"\",5\" pipe\n1,2,3,4,5\n", "file");
    EXPECT_EQ(table.columns, (Names{"a,b", "say \"x\"", "two\nlines", "\"", "5\" pipe"}));
    expect_contains(error_of([] { parse_csv("\"two\nlines\",y\n1,x\n", "file"); }), "file: line 3, column 'y'");
}

TEST_F(Csv, NamesComeBackAsTheyWere) {
    const Names names = {"plain", "a,b",      "a;b", "tab\tbed",         "say \"x\"", "\"", " spaces ", "two\nlines",
                         "\r",    "\xc3\xa4", "1.5", "\xef\xbb\xbfmark", "nan",       "\t", "-",        "#5"};
    const auto table = table_of(names, std::vector<double>(names.size(), 0.25));
    EXPECT_EQ(there_and_back(table).columns, names);
    for (const auto& name : names) {
        if (name == "1.5" || name == "nan") continue;  // alone it looks like a table without names
        EXPECT_EQ(there_and_back(table_of({name}, {0})).columns, Names{name});
    }
    EXPECT_EQ(written(table_of({"x y", "a,b"}, {0, 1})), "x y,\"a,b\"\n0,1\n");
}

TEST_F(Csv, DoublesComeBackBitForBit) {
    using Limits = std::numeric_limits<double>;
    std::vector<double> numbers = {
        0.0,  -0.0, 1.0 / 3, -1e308,   Limits::max(),       Limits::min(), Limits::denorm_min(),
        1e23, 0.1,  -5e-324, 2.5e-310, 123456789012345680.0};
    uint64_t bits = 1;
    while (numbers.size() < 200'000) {  // more than is written at once
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        const auto value = std::bit_cast<double>(bits ^ bits >> 29);
        if (std::isfinite(value)) numbers.push_back(value);
    }
    const auto back = numbers_of(there_and_back(table_of({"x", "y"}, numbers)));
    ASSERT_EQ(back.size(), numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint64_t>(back[i]), std::bit_cast<uint64_t>(numbers[i])) << numbers[i];
    }
}

TEST_F(Csv, FloatsComeBackBitForBitInFewDigits) {
    using Limits = std::numeric_limits<float>;
    std::vector<double> numbers = {
        0.0,           -0.0,
        1.0f / 3,      Limits::max(),
        Limits::min(), Limits::denorm_min(),
        0.1f,          std::bit_cast<float>(0x15ae43fdu)};  // 7.038531e-26, which rounding twice changes
    for (uint32_t bits = 12345; numbers.size() < 100'000; bits = bits * 1664525 + 1013904223) {
        const auto value = std::bit_cast<float>(bits ^ bits >> 13);
        if (std::isfinite(value)) numbers.push_back(value);
    }
    const auto back = numbers_of(there_and_back(table_of({"x"}, numbers), true));
    ASSERT_EQ(back.size(), numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(float(back[i])), std::bit_cast<uint32_t>(float(numbers[i]))) << numbers[i];
    }
    EXPECT_EQ(written(table_of({"x"}, {0.1f, 1.0 / 3, -0.0, 3}), true), "x\n0.1\n0.33333334\n-0\n3\n");
    EXPECT_EQ(written(table_of({"x"}, {0.1, 1.0 / 3, -0.0, 3})), "x\n0.1\n0.3333333333333333\n-0\n3\n");
}

TEST_F(Csv, WritesTensorsOfAnyKindAndLayout) {
    const auto values = torch::arange(6, torch::kFloat32).reshape({2, 3}).t();
    EXPECT_EQ(written({{"x", "y"}, values}), "x,y\n0,3\n1,4\n2,5\n");
    EXPECT_EQ(written({{"x", "y"}, values.to(torch::kInt64)}, true), "x,y\n0,3\n1,4\n2,5\n");
}

TEST_F(Csv, NumbersTooSmallForADoubleAreZero) {
    const auto numbers = parse_column("1e-400\n-1E-400\n+2.5e-9999\n");
    EXPECT_EQ(numbers, (std::vector<double>{0, 0, 0}));
    EXPECT_TRUE(std::signbit(numbers[1]));
    EXPECT_FALSE(std::signbit(numbers[2]));
}

TEST_F(Csv, WrongFilesAreRefusedWithWhatIsWrongWhere) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        // numbers
        {"y1,y2\n1,2\n3,abc\n", "file: line 3, column 'y2': 'abc' is not a number"},
        {"y1,y2\r\n1,2\r\n3 4,5\r\n", "file: line 3, column 'y1': '3 4' is not a number"},
        {"x\n1e\n", "file: line 2, column 'x': '1e' is not a number"},
        {"x\n0x10\n", "file: line 2, column 'x': '0x10' is not a number"},
        {"x\n+-1\n", "file: line 2, column 'x': '+-1' is not a number"},
        {"x\n++1\n", "file: line 2, column 'x': '++1' is not a number"},
        {"x\n+\n", "file: line 2, column 'x': '+' is not a number"},
        {"x\n\"see; there\"\n", "file: line 2, column 'x': 'see; there' is not a number"},
        {"x\n1\x1b[2J\n", "file: line 2, column 'x': '1 [2J' is not a number"},
        {"x\n" + std::string(100, 'z'), "file: line 2, column 'x': '" + std::string(60, 'z') + "...' is not a number"},
        {"x\n1\n\n\"a\nb\"\n", "file: line 3: it is empty"},
        {"x,y\n1,nan\n", "file: line 2, column 'y': 'nan' is not a finite number"},
        {"x,y\n-inf,1\n", "file: line 2, column 'x': '-inf' is not a finite number"},
        {"x\nInfinity\n", "file: line 2, column 'x': 'Infinity' is not a finite number"},
        {"x\n-1e309\n", "file: line 2, column 'x': '-1e309' is too large for a float64"},
        {"x,y\n1,\"2,5\"\n", "file: line 2, column 'y': '2,5' is not a number: write a decimal point, not a comma"},
        {"x,y\n1,5,2,5\n",
         "file: line 2: has 4 fields, but the first line names 2 columns (are there decimal commas? write points)"},
        // fields
        {"x,y,z\n1,2,3\n4,5\n", "file: line 3, column 'z': it is missing; the line has 2 of 3 fields"},
        {"x,y\n1,2\n3,4,5\n", "file: line 3: has 3 fields, but the first line names 2 columns"},
        {"x,y\n1,2,\n", "file: line 2: has 3 fields, but the first line names 2 columns"},
        {"x,y\n1,\n", "file: line 2, column 'y': it is empty; every row needs a number for each column"},
        {"x,y\n ,1\n", "file: line 2, column 'x': it is empty; every row needs a number for each column"},
        {"x,y\n1,\"\"", "file: line 2, column 'y': it is empty; every row needs a number for each column"},
        {"x,y\n1,2\n\n3,4\n", "file: line 3: it is empty; every row needs a number for each column"},
        {"x,y\n\n1,2\n", "file: line 2: it is empty"},
        // quotes
        {"x,y\n1,\"2\n3,4\n5,6\n", "file: line 2, column 'y': its quote is not closed"},
        {"x,\"y\n1,2\n", "file: line 1, column 2: its quote is not closed"},
        {"x\n\"", "file: line 2, column 'x': its quote is not closed"},
        {"x\n\"1\"\"", "file: line 2, column 'x': its quote is not closed"},
        {"x\n\"1\"2\n", "file: line 2, column 'x': text follows its closing quote"},
        // names
        {"", "file: is empty; its first line must name the columns"},
        {"\xef\xbb\xbf\r\n \n", "file: is empty; its first line must name the columns"},
        {"x,y\n", "file: has no rows below the line that names the columns"},
        {"x,y", "file: has no rows below the line that names the columns"},
        {"x,y\n\n\n", "file: has no rows below the line that names the columns"},
        {"x,,z\n1,2,3\n", "file: line 1: column 2 has no name"},
        {"x,\n1,2\n", "file: line 1: column 2 has no name"},
        {"\nx\n1\n", "file: line 1: column 1 has no name"},
        {"x,y, x\n1,2,3\n", "file: line 1: two columns are named 'x'"},
        {"1,2.5,-3e4\n4,5,6\n", "file: line 1: the first line must name the columns, and these are numbers"},
        {"\"1\",\"2\"\n\"4\",\"5\"\n", "file: line 1: the first line must name the columns, and these are numbers"},
        {"nan,1\n4,5\n", "file: line 1: the first line must name the columns, and these are numbers"},
        // other formats
        {"x;y\n1;2\n", "file: line 1: its columns are separated by ';'; use commas"},
        {"\"x\";\"y\"\n1,5;2,5\n", "file: line 1: its columns are separated by ';'; use commas"},
        {"1,5;2,5\n1,5;2,5\n", "file: line 2: its columns are separated by ';'; use commas"},
        {"x,y\n1;2\n", "file: line 2: its columns are separated by ';'; use commas"},
        {"x\ty\n1\t2\n", "file: line 1: its columns are separated by tabs; use commas"},
        {"\"x\"\t\"y\"\n1\t2\n", "file: line 1: its columns are separated by tabs; use commas"},
        {"x,y\n1\t2\n", "file: line 2: its columns are separated by tabs; use commas"},
        {"x,y\r1,2\r3,4\r", "file: line 1: its lines end in a carriage return alone; end them in a newline"},
        {std::string("\xff\xfex\0\n\0001\0\n\0", 10), "file: is no text in UTF-8"},
    };
    for (const auto& [file, message] : cases) {
        const auto found = error_of([&] { parse_csv(file, "file"); });
        EXPECT_TRUE(found.starts_with(message)) << file << "\nis refused with: " << found << "\nnot: " << message;
    }
}

TEST_F(Csv, AFileCutAtAnyByteIsReadOrRefused) {
    const std::string whole = "\xef\xbb\xbf\"a \"\"b\"\"\", c\r\n1.5e2,\"-3\"\r\n+4 ,5\r\n\r\n";
    EXPECT_EQ(parse_csv(whole, "file").values.size(0), 2);
    for (size_t length = 0; length < whole.size(); ++length) {
        try {
            parse_csv(std::string(whole.data(), length), "file");
        } catch (const Error& error) {
            EXPECT_TRUE(std::string(error.what()).starts_with("file: "));
        }
    }
}

TEST_F(Csv, ErrorsNameTheFile) {
    write_file(folder / "wrong.csv", "x\nabc\n");
    EXPECT_EQ(error_of([&] { read_csv(folder / "wrong.csv"); }),
              (folder / "wrong.csv").string() + ": line 2, column 'x': 'abc' is not a number");
    expect_contains(error_of([&] { read_csv(folder / "nothing.csv"); }), "No such file");
}

TEST_F(Csv, WhatCouldNotBeReadIsNotWritten) {
    const auto error = [&](const NumberTable& table, bool as_float32 = false) {
        const auto message = error_of([&] { write_csv(folder / "table.csv", table, as_float32); });
        EXPECT_TRUE(message.starts_with("cannot write " + (folder / "table.csv").string() + ": ")) << message;
        EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
        return message;
    };
    expect_contains(error(table_of({"x", "y"}, {1, 2, 3, std::nan("")})), "row 2 of column 'y' is nan");
    expect_contains(error(table_of({"x"}, {1e39}), true), "row 1 of column 'x' is inf");
    expect_contains(error(table_of({"x", ""}, {1, 2})), "column 2 has no name");
    expect_contains(error(table_of({"x", "x"}, {1, 2})), "two columns are named 'x'");
    expect_contains(error(table_of({"1", "2"}, {1, 2})), "these are numbers");
}

}  // namespace
}  // namespace diffuse
