#include <fstream>

#include "diffuse/base/device.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

namespace fs = std::filesystem;

void put(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
}

TEST(ControlGroups, AllowWhatTheTightestOfThemDoes) {
    const TemporaryFolder root;
    constexpr double kUnlimited = std::numeric_limits<double>::infinity();
    EXPECT_EQ(cores_of_control_groups(root.path(), "0::/user.slice/job\n"), kUnlimited) << "no such files";
    put(root / "user.slice/job/cpu.max", "max 100000\n");
    EXPECT_EQ(cores_of_control_groups(root.path(), "0::/user.slice/job\n"), kUnlimited);
    put(root / "user.slice/cpu.max", "150000 100000\n");
    EXPECT_EQ(cores_of_control_groups(root.path(), "0::/user.slice/job\n"), 1.5) << "of a group above";
    EXPECT_EQ(cores_of_control_groups(root.path(), "0::/other\n"), kUnlimited);
    put(root / "cpu.max", "300000 100000\n");
    EXPECT_EQ(cores_of_control_groups(root.path(), "0::/\n"), 3) << "of a container, whose own group is the root";
    EXPECT_EQ(cores_of_control_groups(root.path(), "nonsense"), 3);
}

TEST(ControlGroups, OfVersionOneCountToo) {
    const TemporaryFolder root;
    put(root / "cpu,cpuacct/docker/job/cpu.cfs_quota_us", "50000\n");
    put(root / "cpu,cpuacct/docker/job/cpu.cfs_period_us", "100000\n");
    put(root / "cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n");
    put(root / "cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(cores_of_control_groups(root.path(), "5:memory:/docker/job\n4:cpu,cpuacct:/docker/job\n"), 0.5);
}

}  // namespace
}  // namespace diffuse
