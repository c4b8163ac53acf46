#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/data/dataset.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using test::user_error_of;
using ::testing::HasSubstr;

const std::filesystem::path kData = std::filesystem::path(ESPQ_TEST_DATA) / "npy";

/// The values that make_npy.py writes.
at::Tensor expected(at::IntArrayRef shape, at::ScalarType dtype) {
  at::Tensor values = at::arange(c10::multiply_integers(shape), at::kLong).mul(7).add(3).remainder(11);
  if (dtype == at::kBool) values = values.remainder(2);
  if (c10::isFloatingType(dtype)) values = values.to(at::kDouble).add(0.5);
  return values.to(dtype).reshape(shape);
}

void expect_equal(const at::Tensor& actual, const at::Tensor& wanted) {
  ASSERT_EQ(actual.scalar_type(), wanted.scalar_type());
  ASSERT_EQ(actual.sizes(), wanted.sizes());
  ASSERT_TRUE(actual.is_contiguous());
  EXPECT_TRUE(actual.to(at::kDouble).equal(wanted.to(at::kDouble))) << actual;
}

class Npy : public ::testing::Test {
 protected:
  std::filesystem::path write(std::string_view bytes, const std::string& name = "damaged.npy") {
    std::filesystem::path file = folder_ / name;
    std::ofstream(file, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<int64_t>(bytes.size()));
    return file;
  }
  static std::string header(const std::string& text) {
    std::string bytes = std::string("\x93NUMPY\x01") + '\0';
    bytes += static_cast<char>(text.size());
    bytes += static_cast<char>(text.size() >> 8);
    return bytes + text;
  }
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("espq_npy_{}_{}", ::testing::UnitTest::GetInstance()->current_test_info()->name(), getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(Npy, ReadsEveryFormatVersion) {
  for (int version : {1, 2, 3}) {
    expect_equal(read_npy(kData / fmt::format("version{}.npy", version)), expected({2, 3, 4}, at::kFloat));
  }
}

TEST_F(Npy, ReadsOrdersAndRanks) {
  expect_equal(read_npy(kData / "fortran.npy"), expected({2, 3, 4}, at::kFloat));
  expect_equal(read_npy(kData / "scalar.npy"), expected({}, at::kDouble));
  expect_equal(read_npy(kData / "vector.npy"), expected({5}, at::kLong));
  EXPECT_EQ(read_npy(kData / "empty.npy").sizes(), at::IntArrayRef({3, 0, 2}));
}

TEST_F(Npy, ReadsEveryDtypeStoredAndDeflated) {
  const std::map<std::string, at::ScalarType> dtypes = {{"b1", at::kBool},   {"i1", at::kChar},   {"i2", at::kShort},
                                                        {"i4", at::kInt},    {"i8", at::kLong},   {"u1", at::kByte},
                                                        {"u2", at::kUInt16}, {"u4", at::kUInt32}, {"u8", at::kUInt64},
                                                        {"f2", at::kHalf},   {"f4", at::kFloat},  {"f8", at::kDouble}};
  for (const char* file : {"dtypes.npz", "dtypes_fortran.npz"}) {
    const auto arrays = read_npz(kData / file);
    ASSERT_EQ(arrays.size(), dtypes.size());
    for (const auto& [name, dtype] : dtypes) expect_equal(arrays.at(name), expected({2, 3, 4}, dtype));
  }
}

TEST_F(Npy, Reads64BitZipRecords) {
  const auto arrays = read_npz(kData / "zip64.npz");
  expect_equal(arrays.at("a"), expected({2, 3, 4}, at::kFloat));
  expect_equal(arrays.at("b"), expected({5}, at::kLong));
}

TEST_F(Npy, WritesTheBytesThatNumPyWrites) {
  for (const char* name : {"version1.npy", "scalar.npy", "vector.npy", "empty.npy"}) {
    write_npy(folder_ / name, read_npy(kData / name));
    EXPECT_EQ(read_file(folder_ / name), read_file(kData / name)) << name;
  }
  for (const auto& [name, array] : read_npz(kData / "dtypes.npz")) {
    write_npy(folder_ / name, array);
    expect_equal(read_npy(folder_ / name), array);
  }
}

TEST_F(Npy, WritesViewsInCOrder) {
  const at::Tensor view = expected({2, 3, 4}, at::kFloat).permute({2, 0, 1});
  write_npy(folder_ / "view.npy", view);
  expect_equal(read_npy(folder_ / "view.npy"), view.contiguous());
}

TEST_F(Npy, NamesWhatItCannotRead) {
  const auto message = [](const std::filesystem::path& file) { return user_error_of([&] { read_npy(file); }); };
  EXPECT_THAT(message(kData / "big_endian.npy"), HasSubstr("big-endian"));
  EXPECT_THAT(message(kData / "complex.npy"), HasSubstr("dtype '<c8' is not supported"));
  EXPECT_THAT(message(kData / "structured.npy"), HasSubstr("structured dtype"));
  EXPECT_THAT(message(kData / "dtypes.npz"), HasSubstr("is not a .npy file"));
  EXPECT_THAT(message(kData / "absent.npy"), HasSubstr("absent.npy: cannot be opened"));
  EXPECT_THAT(user_error_of([] { read_npz(kData / "version1.npy"); }), HasSubstr("is not a zip archive"));
  EXPECT_THAT(user_error_of([&] { write_npy(folder_ / "x.npy", at::zeros({1}, at::kBFloat16)); }),
              HasSubstr("no dtype"));
}

TEST_F(Npy, RefusesSizesThatTheFileDoesNotHold) {
  const auto file_of = [&](const std::string& shape) {
    return write(header("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}\n") + "0123");
  };
  const auto message = [&](const std::string& shape) {
    return user_error_of([file = file_of(shape)] { read_npy(file); });
  };
  EXPECT_EQ(read_npy(file_of("(1,)")).numel(), 1);
  EXPECT_THAT(message("(1000000000000,)"), HasSubstr("holds 4 bytes of data where its shape [1000000000000] needs"));
  EXPECT_THAT(message("(4294967296, 4294967296, 4)"), HasSubstr("needs more than any"));
  EXPECT_THAT(message("(9223372036854775808,)"), HasSubstr("header is damaged"));
  EXPECT_THAT(message("(-1,)"), HasSubstr("header is damaged"));
  EXPECT_THAT(message("()) "), HasSubstr("header is damaged"));
  EXPECT_THAT(message("(0,)"), HasSubstr("holds 4 bytes"));
}

TEST_F(Npy, EveryTruncationIsAnError) {
  for (const char* name : {"version1.npy", "version2.npy"}) {
    const std::string bytes = read_file(kData / name);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const auto file = write(std::string_view(bytes).substr(0, size));
      EXPECT_THROW(read_npy(file), UserError) << name << " cut to " << size;
    }
  }
  const std::string bytes = read_file(kData / "zip64.npz");
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto file = write(std::string_view(bytes).substr(0, size));
    EXPECT_THROW(read_npz(file), UserError) << "cut to " << size;
  }
}

TEST_F(Npy, EveryFlippedByteIsReadOrRefused) {
  // A changed payload is still a valid .npy file; a zip archive has a checksum over it.
  int refused = 0;
  const auto flip_each = [&](const std::string& bytes, auto read) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      for (int mask : {0x01, 0x80, 0xff}) {
        std::string damaged = bytes;
        damaged[i] = static_cast<char>(damaged[i] ^ mask);
        const auto file = write(damaged);
        try {
          read(file);
        } catch (const UserError&) {
          ++refused;
        }
      }
    }
  };
  flip_each(read_file(kData / "version1.npy"), [](const auto& file) { read_npy(file); });
  flip_each(read_file(kData / "zip64.npz"), [](const auto& file) { read_npz(file); });
  flip_each(read_file(kData / "two_inputs.npz"), [](const auto& file) { read_npz(file); });
  EXPECT_GT(refused, 500);
}

TEST_F(Npy, RefusesAZipEntryThatClaimsToExpandBeyondDeflate) {
  // The uncompressed size of the first directory entry becomes 3 GiB.
  std::string bytes = read_file(kData / "dtypes_fortran.npz");
  const size_t entry = bytes.find(std::string("PK\x01\x02"));
  ASSERT_NE(entry, std::string::npos);
  bytes.replace(entry + 24, 4, std::string("\x00\x00\x00\xc0", 4));
  const auto file = write(bytes);
  EXPECT_THAT(user_error_of([&] { read_npz(file); }), HasSubstr("more than its"));
}

}  // namespace
}  // namespace espq
