#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace espq::cli {

struct ProgramResult {
  int exit_code;
  std::string out, err;
};

inline std::string file_text(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

/// Runs the real program in a folder of its own.
class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              (std::string("espq_cli_") + test->name() + "_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_ / "out");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  ProgramResult espq(const std::vector<std::string>& arguments) const {
    std::string command = "'" ESPQ_PROGRAM "'";
    for (const std::string& argument : arguments) command += " '" + argument + "'";
    command += " >'" + (folder_ / "stdout").string() + "' 2>'" + (folder_ / "stderr").string() + "'";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, file_text(folder_ / "stdout"), file_text(folder_ / "stderr")};
  }
  static std::string data(const std::string& name) { return std::string(ESPQ_TEST_DATA) + "/cli/" + name; }
  std::string out(const std::string& name) const { return (folder_ / "out" / name).string(); }
  /// Names in the output folder.
  std::vector<std::string> written() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "out"))
      names.push_back(entry.path().filename().string());
    return names;
  }
  void copy_damaged(const std::string& from, const std::string& to, size_t keep) const {
    std::ofstream(to, std::ios::binary) << file_text(from).substr(0, keep);
  }
  /// One clear line, exit code 1, nothing written.
  void expect_error(const std::vector<std::string>& arguments, const std::string& part) const {
    const ProgramResult result = espq(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << "expected \"" << part << "\" in: " << result.err;
    EXPECT_EQ(result.err.rfind("espq: error: ", 0), 0u) << result.err;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << "not one line: " << result.err;
    EXPECT_TRUE(written().empty());
  }
  std::filesystem::path folder_;
};

}  // namespace espq::cli
