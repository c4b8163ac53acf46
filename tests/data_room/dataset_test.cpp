#include "core/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/data/sample_files.h"
#include "core/support/error.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::user_error_of;
using ::testing::HasSubstr;

const std::filesystem::path kData = std::filesystem::path(ESPQ_TEST_DATA) / "npy";

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("espq_data_{}_{}", ::testing::UnitTest::GetInstance()->current_test_info()->name(), getpid());
    std::filesystem::create_directories(folder_ / "folder.npy");  // looks like a batch and is none
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void add_input(const std::string& name, Shape shape, at::ScalarType dtype = at::kFloat) {
    Variable& input = graph_.add_variable(name);
    input.set_shape(std::move(shape));
    input.set_dtype(dtype);
    graph_.add_input(input);
  }
  std::filesystem::path folder_;
  Graph graph_;
};

TEST_F(DatasetTest, ReadsAFolderInNameOrder) {
  for (int batch : {10, 2, 1}) write_npy(folder_ / fmt::format("b{:02}.npy", batch), at::full({1, 2}, float(batch)));
  std::ofstream(folder_ / "notes.txt") << "not data";
  const Dataset data = Dataset::open({folder_});
  ASSERT_EQ(data.size(), 3u);
  std::vector<float> order;
  for (size_t i = 0; i < 3; ++i) order.push_back(data[i].at("").flatten()[0].item<float>());
  EXPECT_THAT(order, ::testing::ElementsAre(1.f, 2.f, 10.f));
}

TEST_F(DatasetTest, KeepsTheOrderOfThePaths) {
  const Dataset data = Dataset::open({kData / "vector.npy", kData / "two_inputs.npz", kData / "fortran.npy"});
  ASSERT_EQ(data.size(), 3u);
  EXPECT_EQ(data[0].at("").dim(), 1);
  EXPECT_EQ(data[1].size(), 2u);
  EXPECT_EQ(data[2].at("").dim(), 3);
}

TEST_F(DatasetTest, RefusesBadPathsAndValues) {
  const auto message = [](const std::filesystem::path& path) { return user_error_of([&] { Dataset::open({path}); }); };
  EXPECT_THAT(message(kData / "not_finite.npy"), HasSubstr("2 of 3 values are NaN or infinite, the first is number 1"));
  EXPECT_THAT(message(kData / "empty.npy"), HasSubstr("holds no values"));
  EXPECT_THAT(message(kData / "absent"), HasSubstr("does not exist"));
  EXPECT_THAT(message(folder_), HasSubstr("holds no .npy or .npz file and no image"));
  EXPECT_THAT(message(kData / ".." / "make_npy.py"), HasSubstr("neither a folder nor"));
  EXPECT_THAT(user_error_of([] { Dataset::open({}); }), HasSubstr("no data"));
}

TEST_F(DatasetTest, GivesInputsInGraphOrder) {
  add_input("length", {1});
  add_input("image", {1, 2, 4});
  const auto inputs = Dataset::open({kData / "two_inputs.npz"}).inputs(graph_, 0);
  ASSERT_EQ(inputs.size(), 2u);
  EXPECT_EQ(inputs[0].scalar_type(), at::kFloat);  // stored as float64
  EXPECT_EQ(inputs[0].item<float>(), 3.5f);
  EXPECT_EQ(inputs[1].sizes(), at::IntArrayRef({1, 2, 4}));
}

TEST_F(DatasetTest, AcceptsAnUnnamedArrayForTheOnlyInput) {
  add_input("x", {5});
  EXPECT_EQ(Dataset::open({kData / "vector.npy"}).inputs(graph_, 0)[0].scalar_type(), at::kFloat);
  EXPECT_EQ(Dataset({{{"arr_0", at::zeros({5})}}}).inputs(graph_, 0).size(), 1u);
}

TEST_F(DatasetTest, AcceptsAnotherNumberOfSamples) {
  add_input("x", {1, 3});
  EXPECT_EQ(Dataset({{{"", at::zeros({7, 3})}}}).inputs(graph_, 0)[0].size(0), 7);
}

TEST_F(DatasetTest, NamesTheInputThatDoesNotFit) {
  add_input("x", {1, 5});
  const auto message = [&](Dataset::Batch batch) {
    return user_error_of([&] { Dataset({std::move(batch)}).inputs(graph_, 0); });
  };
  EXPECT_THAT(message({{"", at::zeros({6})}}), HasSubstr("input 'x' has shape [1, 5], the data has shape [6]"));
  EXPECT_THAT(message({{"y", at::zeros({1, 5})}}), HasSubstr("'y' is no input of the model, which has x"));
  EXPECT_THAT(message({{"", at::full({1, 5}, 1e300, at::kDouble)}}), HasSubstr("values that do not fit"));
  add_input("index", {1}, at::kLong);
  EXPECT_THAT(message({{"x", at::zeros({1, 5})}}), HasSubstr("has no array for input 'index'"));
  EXPECT_THAT(message({{"", at::zeros({1, 5})}}), HasSubstr("the model has the inputs x, index"));
  EXPECT_THAT(message({{"x", at::zeros({1, 5})}, {"index", at::full({1}, 0.5)}}), HasSubstr("values that do not fit"));
}

TEST_F(DatasetTest, CutsFilesIntoBatches) {
  write_npy(folder_ / "a.npy", at::arange(14).view({7, 2}));
  write_npy(folder_ / "b.npy", at::arange(4).view({2, 2}));
  const Dataset data = open_dataset({folder_}, {.batch = 3});
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < data.size(); ++i) sizes.push_back(data[i].at("").size(0));
  EXPECT_THAT(sizes, ::testing::ElementsAre(3, 3, 1, 2));
  EXPECT_TRUE(data[2].at("").equal(at::tensor({12, 13}).view({1, 2})));
}

TEST_F(DatasetTest, OneSampleNeedsNoBatchDimension) {
  add_input("x", {1, 2, 3});
  const at::Tensor sample = at::arange(6, at::kFloat).view({2, 3});
  EXPECT_TRUE(Dataset({{{"", sample}}}).inputs(graph_, 0)[0].equal(sample.unsqueeze(0)));
  EXPECT_THAT(user_error_of([&] { Dataset({{{"", sample.t()}}}).inputs(graph_, 0); }), HasSubstr("[3, 2]"));
}

}  // namespace
}  // namespace espq
