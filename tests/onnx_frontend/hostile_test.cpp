// Damaged and malicious files: every one is a UserError, none reads or allocates what it should not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "tests/onnx_frontend/onnx_model_builder.h"

namespace espq {
namespace {

using test::integers;
using test::OnnxModelBuilder;
using test::user_error_of;
using testing::HasSubstr;
namespace fs = std::filesystem;

OnnxModelBuilder small_network() {
  OnnxModelBuilder builder(17);
  builder.input("x", {1, 2, 6, 6})
      .constant("w", at::arange(3 * 2 * 3 * 3, at::kFloat).reshape({3, 2, 3, 3}))
      .constant("b", at::ones({3}))
      .node("Conv", "first", {"x", "w", "b"}, {"h"}, {integers("pads", {1, 1, 1, 1}), integers("strides", {2, 2})})
      .node("Conv", "second", {"h", "v"}, {"y"}, {integers("kernel_shape", {1, 1})})
      .output("y");
  builder.constant("v", at::ones({1, 3, 1, 1}));
  return builder;
}

/// True when the bytes import, false on a UserError; everything else is a failure of the test.
bool imports(std::string_view bytes) {
  try {
    const Graph graph = import_onnx_bytes(bytes, "model.onnx", ".");
    verify(graph);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

// A protobuf message has no checksum or end mark: a cut between two fields gives a smaller valid message. What counts
// is that a cut model never comes out as the whole one.
TEST(HostileOnnx, EveryTruncationIsRefused) {
  const std::string bytes = small_network().bytes();
  ASSERT_TRUE(imports(bytes));
  const auto opset = bytes.size();
  for (size_t length = 0; length + 1 < opset; ++length) EXPECT_FALSE(imports(bytes.substr(0, length))) << length;
}

TEST(HostileOnnx, MutationsNeverCrash) {
  const std::string original = small_network().bytes();
  std::mt19937 random(20240611);
  int accepted = 0;
  constexpr int kRounds = 4000;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = original;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) {
      const size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] ^= static_cast<char>(1 << (random() % 8));
          break;
        case 2:
          bytes.erase(at, 1 + random() % 8);
          break;
        default:
          bytes.insert(at, 1 + random() % 4, static_cast<char>(random()));
          break;
      }
      if (bytes.empty()) break;
    }
    accepted += imports(bytes);
  }
  // Bytes of weights and names may change without harm; structure may not.
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, kRounds);
}

TEST(HostileOnnx, NoModelAtAll) {
  EXPECT_THAT(user_error_of([] { import_onnx_bytes("", "empty.onnx", "."); }),
              HasSubstr("empty.onnx: the file is empty"));
  EXPECT_THAT(user_error_of([] { import_onnx_bytes("GIF89a no model", "a.gif", "."); }), HasSubstr("a.gif"));
  EXPECT_THAT(user_error_of([] { import_onnx("/nonexistent/model.onnx"); }), HasSubstr("/nonexistent/model.onnx"));
  EXPECT_THAT(user_error_of([] { import_onnx(fs::temp_directory_path()); }), HasSubstr("folder"));
}

TEST(HostileOnnx, TensorSizesMustFitTheirData) {
  const auto with_dims = [](std::vector<int64_t> dims) {
    OnnxModelBuilder builder = small_network();
    builder.model.initializers[0].dims = std::move(dims);
    return user_error_of([&] { builder.import(); });
  };
  EXPECT_THAT(with_dims({3, 2, 3, 4}), HasSubstr("initializer 'w' holds 216 bytes of data, its shape needs 288"));
  EXPECT_THAT(with_dims({-3, 2, 3, 3}), HasSubstr("negative dimension"));
  EXPECT_THAT(with_dims({int64_t{1} << 40, int64_t{1} << 40}), HasSubstr("too large"));
  EXPECT_THAT(with_dims({int64_t{1} << 62, 0, int64_t{1} << 62}), HasSubstr("too large"));
  EXPECT_THAT(with_dims({int64_t{1} << 40}), HasSubstr("shape needs"));
  EXPECT_THAT(with_dims(std::vector<int64_t>(1000, 1)), HasSubstr("1000 dimensions"));
}

TEST(HostileOnnx, NamesMustBeText) {
  OnnxModelBuilder builder = small_network();
  builder.model.nodes[0].name = "broken \xff name";
  EXPECT_THAT(user_error_of([&] { builder.import(); }), HasSubstr("not valid UTF-8"));
}

TEST(HostileOnnx, LinksMustBeSound) {
  const auto error_of = [](auto change) {
    OnnxModelBuilder builder = small_network();
    change(builder.model);
    return user_error_of([&] { builder.import(); });
  };
  EXPECT_THAT(error_of([](auto& m) { m.nodes[1].inputs[0] = "nothing"; }),
              HasSubstr("Conv 'second': its input 'nothing' is produced by no node"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[1].outputs[0] = "h"; }), HasSubstr("tensor 'h' is defined twice"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[1].outputs[0] = "w"; }), HasSubstr("tensor 'w' is defined twice"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[0].outputs[0] = "x"; }), HasSubstr("tensor 'x' is defined twice"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[0].inputs[0] = "y"; }), HasSubstr("cycle"));
  EXPECT_THAT(error_of([](auto& m) { m.outputs[0].name = "z"; }), HasSubstr("output 'z' is produced by no node"));
  EXPECT_THAT(error_of([](auto& m) { m.outputs.clear(); }), HasSubstr("has no output"));
  EXPECT_THAT(error_of([](auto& m) { m.outputs.push_back(m.outputs[0]); }), HasSubstr("listed twice"));
  EXPECT_THAT(error_of([](auto& m) { m.inputs.push_back(m.inputs[0]); }), HasSubstr("defined twice"));
  EXPECT_THAT(error_of([](auto& m) { m.initializers.push_back(m.initializers[0]); }), HasSubstr("defined twice"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[0].inputs.resize(1); }), HasSubstr("Conv 'first'"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[0].outputs.clear(); }), HasSubstr("Conv 'first'"));
  EXPECT_THAT(error_of([](auto& m) { m.nodes[0].inputs.resize(9, "b"); }), HasSubstr("has 9 inputs"));
}

TEST(HostileOnnx, AttributesMustMakeSense) {
  const auto error_of = [](onnx_file::Attribute attribute) {
    OnnxModelBuilder builder = small_network();
    auto& attributes = builder.model.nodes[0].attributes;
    std::erase_if(attributes, [&](const auto& entry) { return entry.name == attribute.name; });
    attributes.push_back(attribute);
    return user_error_of([&] { builder.import(); });
  };
  EXPECT_THAT(error_of(integers("pads", {1, 1})), HasSubstr("Conv 'first': attribute 'pads' has 2 entries"));
  EXPECT_THAT(error_of(integers("strides", {0, 1})), HasSubstr("impossible entry 0"));
  EXPECT_THAT(error_of(integers("dilations", {1, int64_t{1} << 50})), HasSubstr("impossible entry"));
  EXPECT_THAT(error_of(test::text("pads", "none")), HasSubstr("wrong type"));
  EXPECT_THAT(error_of(test::text("auto_pad", "SOMEHOW")), HasSubstr("SOMEHOW"));
  EXPECT_THAT(error_of(integers("kernel_shape", {5, 5})), HasSubstr("does not agree"));
  EXPECT_THAT(error_of(test::integer("colour", 3)), HasSubstr("colour"));
}

TEST(HostileOnnx, InputsMustBeReasonable) {
  const auto error_of = [](const Shape& shape) {
    OnnxModelBuilder builder = small_network();
    builder.model.inputs[0] = OnnxModelBuilder::value("x", shape);
    return user_error_of([&] { builder.import(); });
  };
  EXPECT_THAT(error_of({1, 2, int64_t{1} << 40, 6}), HasSubstr("input 'x' is too large"));
  EXPECT_THAT(error_of({int64_t{1} << 20, 2, int64_t{1} << 20, 1 << 20}), HasSubstr("input 'x' is too large"));
}

// ------------------------------------------------------------------------------------------------ external data
class ExternalData : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / fmt::format("espq_external_{}", ::getpid());
    fs::create_directories(folder_ / "model" / "sub");
    write_file(folder_ / "secret.bin", std::string(400, 's'));
    write_file(folder_ / "model" / "weights.bin", std::string(24, '\0') + weights());
    write_file(folder_ / "model" / "sub" / "weights.bin", weights());
  }
  void TearDown() override { fs::remove_all(folder_); }

  static std::string weights() {
    return onnx_file::from_tensor(at::arange(3 * 2 * 3 * 3, at::kFloat).reshape({3, 2, 3, 3})).bytes;
  }
  /// A wire-format field of protobuf with length prefix.
  static std::string field(int number, const std::string& bytes) {
    std::string result;
    const auto varint = [&](uint64_t value) {
      for (; value >= 0x80; value >>= 7) result += static_cast<char>(value | 0x80);
      result += static_cast<char>(value);
    };
    varint(static_cast<uint64_t>(number) << 3 | 2);
    varint(bytes.size());
    return result + bytes;
  }
  /// The model with initializer 'w' outside: TensorProto fields 13 (external_data) and 14 (data_location = EXTERNAL).
  fs::path write_model(const std::vector<std::pair<std::string, std::string>>& entries) {
    OnnxModelBuilder builder = small_network();
    builder.model.initializers.erase(builder.model.initializers.begin());
    std::string tensor = std::string("\x08\x03\x08\x02\x08\x03\x08\x03\x10\x01", 10) + field(8, "w");
    for (const auto& [key, value] : entries) tensor += field(13, field(1, key) + field(2, value));
    tensor += std::string("\x70\x01", 2);
    fs::path file = folder_ / "model" / "model.onnx";
    // A repeated message field of protobuf merges: the second graph adds the initializer (field 5) to the first.
    write_file(file, builder.bytes() + field(7, field(5, tensor)));
    return file;
  }
  std::string error_of(const std::vector<std::pair<std::string, std::string>>& entries) {
    return user_error_of([&] { import_onnx(write_model(entries)); });
  }
  fs::path folder_;
};

TEST_F(ExternalData, IsReadFromTheModelsFolder) {
  const at::Tensor expected = at::arange(54, at::kFloat).reshape({3, 2, 3, 3});
  const Graph plain = import_onnx(write_model({{"location", "sub/weights.bin"}}));
  EXPECT_TRUE(at::equal(plain.find_variable("w")->value(), expected));
  const Graph offset =
      import_onnx(write_model({{"location", "weights.bin"}, {"offset", "24"}, {"length", "216"}, {"checksum", "00"}}));
  EXPECT_TRUE(at::equal(offset.find_variable("w")->value(), expected));
}

TEST_F(ExternalData, NeverLeavesTheModelsFolder) {
  EXPECT_THAT(error_of({{"location", "../secret.bin"}}), HasSubstr("not inside the model's folder"));
  EXPECT_THAT(error_of({{"location", "sub/../../secret.bin"}}), HasSubstr("not inside the model's folder"));
  EXPECT_THAT(error_of({{"location", (folder_ / "secret.bin").string()}}), HasSubstr("not inside the model's folder"));
  EXPECT_THAT(error_of({{"location", "/etc/passwd"}}), HasSubstr("not inside the model's folder"));
  EXPECT_THAT(error_of({}), HasSubstr("not inside the model's folder"));
  fs::create_symlink(folder_ / "secret.bin", folder_ / "model" / "link.bin");
  EXPECT_THAT(error_of({{"location", "link.bin"}}), HasSubstr("leaves the model's folder"));
  EXPECT_THAT(error_of({{"location", "sub"}}), HasSubstr("is missing"));
  EXPECT_THAT(error_of({{"location", "other.bin"}}), HasSubstr("'other.bin' is missing"));
}

TEST_F(ExternalData, SizesMustFit) {
  EXPECT_THAT(error_of({{"location", "weights.bin"}, {"offset", "25"}}), HasSubstr("ends too early"));
  EXPECT_THAT(error_of({{"location", "weights.bin"}, {"length", "100"}}), HasSubstr("100 bytes long"));
  EXPECT_THAT(error_of({{"location", "weights.bin"}, {"offset", "-1"}}), HasSubstr("malformed number"));
  EXPECT_THAT(error_of({{"location", "weights.bin"}, {"offset", "99999999999999999999"}}), HasSubstr("malformed"));
}

}  // namespace
}  // namespace espq
