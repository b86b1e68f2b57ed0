#include "diffuse/base/text.hpp"

#include "testing.hpp"

namespace diffuse {
namespace {

TEST(Text, NamesAreTheSameInWhicheverFormTheirAccentsAreWritten) {
    const std::string composed = "caf\xc3\xa9", taken_apart = "cafe\xcc\x81";
    EXPECT_EQ(nfc(taken_apart), composed);
    EXPECT_EQ(nfc("cat"), "cat");
    EXPECT_TRUE(is_same_name(composed, taken_apart));
    EXPECT_FALSE(is_same_name(composed, "cafe"));
    const std::string latin1 = "caf\xe9";
    EXPECT_EQ(nfc(latin1), std::nullopt);
    EXPECT_TRUE(is_same_name(latin1, latin1));
    EXPECT_FALSE(is_same_name(latin1, composed));
}

}  // namespace
}  // namespace diffuse
