#include "tests/cli/program.h"

namespace espq::cli {
namespace {

using OperatorsPage = ProgramTest;

TEST_F(OperatorsPage, IsWhatTheTableSays) {
  const ProgramResult page = espq({"ops", "--markdown"});
  ASSERT_EQ(page.exit_code, 0) << page.err;
  const std::string kept = file_text(std::string(ESPQ_TEST_DATA) + "/../../docs/operators.md");
  EXPECT_TRUE(page.out == kept) << "docs/operators.md is old: espq ops --markdown > docs/operators.md";
}

TEST_F(OperatorsPage, IsNoJson) {
  const ProgramResult both = espq({"ops", "--markdown", "--json"});
  EXPECT_NE(both.exit_code, 0);
  EXPECT_EQ(both.out, "");
}

}  // namespace
}  // namespace espq::cli
