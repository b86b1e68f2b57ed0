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
    NumberTable there_and_back(const NumberTable& table, const std::vector<double>& steps = {}) {
        write_csv(folder / "table.csv", table, steps);
        return read_csv(folder / "table.csv");
    }
    std::string written(const NumberTable& table, const std::vector<double>& steps = {}) {
        write_csv(folder / "table.csv", table, steps);
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
    const auto back = numbers_of(there_and_back(table_of({"x"}, numbers), {0x1p-24}));
    ASSERT_EQ(back.size(), numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(float(back[i])), std::bit_cast<uint32_t>(float(numbers[i]))) << numbers[i];
    }
    EXPECT_EQ(written(table_of({"x"}, {0.1f, 1.0f / 3, -0.0, 3}), {0x1p-24}), "x\n0.1\n0.33333334\n-0\n3\n");
    EXPECT_EQ(written(table_of({"x"}, {0.1, 1.0 / 3, -0.0, 3})), "x\n0.1\n0.3333333333333333\n-0\n3\n");
}

TEST_F(Csv, WritesTensorsOfAnyKindAndLayout) {
    const auto values = torch::arange(6, torch::kFloat32).reshape({2, 3}).t();
    EXPECT_EQ(written({{"x", "y"}, values}), "x,y\n0,3\n1,4\n2,5\n");
    EXPECT_EQ(written({{"x", "y"}, values.to(torch::kInt64)}, {1, 1}), "x,y\n0,3\n1,4\n2,5\n");
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
        {"x,y\n1,\"1,000\"\n",
         "file: line 2, column 'y': '1,000' is not a number: write 1000, without commas between thousands, or 1.000 if "
         "that is meant"},
        {"x,y\n1,\"-21,034,056.7\"\n",
         "file: line 2, column 'y': '-21,034,056.7' is not a number: write -21034056.7, without commas between "
         "thousands"},
        {"x,y\n1,5,2,5\n",
         "file: line 2: has 4 fields, but the first line names 2 columns (are there decimal commas? write points, or "
         "separate "
         "columns by ';')"},
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
        {"1,5;2,5\n1,5;2,5\n", "file: line 2: its columns are separated by ';', those of the first line by ','"},
        {"x,y\n1;2\n", "file: line 2: its columns are separated by ';', those of the first line by ','"},
        {"x;y\n1\t2\n", "file: line 2: its columns are separated by tabs, those of the first line by ';'"},
        {"x,y\n1\t2\n", "file: line 2: its columns are separated by tabs, those of the first line by ','"},
        {"x\ty\n1\n", "file: line 2, column 'y': it is missing"},
        {"x;y\n1,5;2.5\n", "file: line 2, column 'y': '2.5' has a decimal point, numbers before it have a comma"},
        {"x;y\n1;2.5\n1,000;2\n", "file: line 3, column 'x': '1,000' has a decimal comma, numbers before it have a "},
        {"x;y\n1.000,5;2\n", "file: line 2, column 'x': '1.000,5' is not a number"},
        {"x,y\r1,2\r3,4\r", "file: line 1: its lines end in a carriage return alone; end them in a newline"},
        {std::string("\xff\xfex\0\n\0001\0\n\0", 10), "file: is no text in UTF-8"},
        {"gr\xf6\xdf"
         "e,y\n1,2\n",
         "file: line 1: is no text in UTF-8, for it has a byte f6 there; save it in UTF-8"},
        {"x,name\n1,Zo\xeb\n", "file: line 2: is no text in UTF-8"},
        {"x\xed\xa0\x80\n1\n", "file: line 1: is no text in UTF-8"},  // half a pair of UTF-16
        {"x\xc0\xaf\n1\n", "file: line 1: is no text in UTF-8"},      // a longer form of '/'
        {"x\xc3", "file: line 1: is no text in UTF-8"},               // cut inside a character
    };
    for (const auto& [file, message] : cases) {
        const auto found = error_of([&] { parse_csv(file, "file"); });
        EXPECT_TRUE(found.starts_with(message)) << file << "\nis refused with: " << found << "\nnot: " << message;
    }
}

TEST_F(Csv, SemicolonsAndTabsSeparateColumnsWhereTheFirstLineHasThem) {
    const auto expected = table_of({"a", "b"}, {1.5, -2, 3, 40.25});
    for (const std::string file : {"a;b\n1,5;-2\n3;40,25\n", "a;b\r\n1.5;-2\r\n3;40.25\r\n",
                                   "\"a\" ; \"b\"\n\"1,5\";-2\n3; 40,25 ", "a\tb\n1.5\t-2\n3\t40.25\n",
                                   "\xef\xbb\xbf"
                                   "a\tb\n1,5\t -2\n3\t\"40,25\"\n"}) {
        const auto table = parse_csv(file, "file");
        EXPECT_EQ(table.columns, expected.columns) << file;
        EXPECT_TRUE(torch::equal(table.values, expected.values)) << file;
    }
    EXPECT_EQ(parse_csv("height, cm;weight\n1;2\n", "file").columns, (Names{"height, cm", "weight"}));
    EXPECT_EQ(parse_csv("\"a;b\"\n1\n", "file").columns, Names{"a;b"});
}

TEST_F(Csv, ColumnsAreLeftOut) {
    const std::string file = ",id,x,date,y\n0,a17,1,2021-01-01,2\n1,\"b, 18\",3,,4\n";
    const auto table = parse_csv(file, "file", {.skip = {"", "id", "date"}});
    EXPECT_EQ(table.columns, (Names{"x", "y"}));
    EXPECT_EQ(numbers_of(table), (std::vector<double>{1, 2, 3, 4}));
    EXPECT_EQ(table.lines, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(parse_csv(file, "file", {.only = {"y"}}).columns, Names{"y"});
    const auto error = [&](const Names& skip) { return error_of([&] { parse_csv(file, "file", {.skip = skip}); }); };
    expect_contains(error({}),
                    "column 1 has no name; the first line must name the columns, or leave it out by "
                    "dataset.skip_columns=[\"\"]");
    expect_contains(error({""}),
                    "line 2, column 'id': 'a17' is not a number; columns of text are left out by "
                    "dataset.skip_columns=[\"\",\"id\",\"date\"]");
    expect_contains(error({"", "id", "dat"}), "unknown column 'dat'; did you mean 'date'");
}

TEST_F(Csv, RowsWithGapsAreLeftOutAndCounted) {
    const std::string file = "x,y,z\n1,2,3\n,5,6\n7,NA,9\n10,nan,NULL\n\n13,14\n16,17,18\n";
    const auto table = parse_csv(file, "file", {.skip_gaps = true});
    EXPECT_EQ(numbers_of(table), (std::vector<double>{1, 2, 3, 16, 17, 18}));
    EXPECT_EQ(table.lines, (std::vector<int64_t>{2, 8}));
    EXPECT_EQ(table.gaps, 4);
    EXPECT_EQ(parse_csv(file, "file", {.skip = {"y"}, .skip_gaps = true}).gaps, 3);  // of the columns that are read
    const auto error = [](const std::string& text) {
        return error_of([&] { parse_csv(text, "file", {.skip_gaps = true}); });
    };
    expect_contains(error("x,y\n1,two\n"), "'two' is not a number");
    expect_contains(error("x,y\n1,2,3\n"), "has 3 fields");
    expect_contains(error("x,y\n1,inf\n"), "'inf' is not a finite number");
    expect_contains(error("x,y\n1,\n,2\n"), "all of its rows have gaps");
    expect_contains(error_of([&] { parse_csv(file, "file"); }),
                    "it is empty; every row needs a number for each "
                    "column; dataset.skip_bad leaves such rows out");
}

TEST_F(Csv, FilesPackedByGzipAreRead) {
    // printf 'x,y\n1,2\n3,4\n' | gzip -n
    const std::string packed(
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xab\xd0\xa9\xe4\x32\xd4\x31\xe2"
        "\x32\xd6\x31\xe1\x02\x00\x97\x44\x29\x80\x0c\x00\x00\x00",
        32);
    write_file(folder / "t.csv.gz", packed);
    EXPECT_EQ(numbers_of(read_csv(folder / "t.csv.gz")), (std::vector<double>{1, 2, 3, 4}));
    write_file(folder / "t.csv.gz", packed.substr(0, 22));
    expect_contains(error_of([&] { read_csv(folder / "t.csv.gz"); }), "the gzip data is damaged or cut short");
}

TEST_F(Csv, DigitsAreWrittenAsFarAsNumbersAreKnown) {
    // of timestamps that are known to a minute's 2^24th part
    const std::vector<double> numbers = {1.7e9 + 20.123456789, 1.7e9 - 1.0 / 3};
    EXPECT_EQ(written(table_of({"time"}, numbers), {60 * 0x1p-24}), "time\n1700000020.123457\n1699999999.666667\n");
    EXPECT_EQ(written(table_of({"x"}, {1.0 / 3}), {1}), "x\n0.3\n");
    EXPECT_EQ(written(table_of({"x"}, {3.45584123421e-171}), {1e-172 * 0x1p-24}), "x\n3.455841234e-171\n");
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
    EXPECT_TRUE(error_of([&] {
                    read_csv(folder / "wrong.csv");
                }).starts_with((folder / "wrong.csv").string() + ": line 2, column 'x': 'abc' is not a number"));
    expect_contains(error_of([&] { read_csv(folder / "nothing.csv"); }), "No such file");
}

TEST_F(Csv, WhatCouldNotBeReadIsNotWritten) {
    const auto error = [&](const NumberTable& table) {
        const auto message = error_of([&] { write_csv(folder / "table.csv", table); });
        EXPECT_TRUE(message.starts_with("cannot write " + (folder / "table.csv").string() + ": ")) << message;
        EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
        return message;
    };
    expect_contains(error(table_of({"x", "y"}, {1, 2, 3, std::nan("")})), "row 2 of column 'y' is nan");
    expect_contains(error(table_of({"x", ""}, {1, 2})), "column 2 has no name");
    expect_contains(error(table_of({"x", "x"}, {1, 2})), "two columns are named 'x'");
    expect_contains(error(table_of({"1", "2"}, {1, 2})), "these are numbers");
}

}  // namespace
}  // namespace diffuse
