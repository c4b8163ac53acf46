#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "core/support/error.h"
#include "core/support/file.h"
#include "export/espdl/container.h"
#include "export/espdl/reader.h"
#include "export/espdl/writer.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

std::vector<std::filesystem::path> reference_files() {
  std::vector<std::filesystem::path> files;
  for (const ReferenceCases& cases : {board_cases(), peer_cases()})
    for (const auto& entry : std::filesystem::recursive_directory_iterator(cases.folder))
      if (entry.path().extension() == ".espdl") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

EspdlTensor int8_tensor(std::string name, std::vector<int64_t> dims, std::vector<int8_t> values, int64_t exponent) {
  EspdlTensor tensor;
  tensor.name = std::move(name);
  tensor.dims = std::move(dims);
  tensor.type = ElementType::Int8;
  tensor.exponents = {exponent};
  tensor.raw = pad_to_blocks({values.begin(), values.end()});
  return tensor;
}

EspdlValueInfo int8_value(std::string name, const std::vector<int64_t>& dims, int64_t exponent) {
  EspdlValueInfo value{.name = std::move(name), .type = ElementType::Int8, .shape = std::vector<EspdlDimension>()};
  for (const int64_t dim : dims) value.shape->push_back({.value = dim});
  value.exponents = {exponent};
  return value;
}

/// One 8-bit Relu with its table and test values.
EspdlModel relu_model() {
  EspdlModel model;
  model.graph_name = "m11x";
  model.nodes = {{.name = "n0", .op_type = "Relu", .inputs = {"x"}, .outputs = {"y"}}};
  model.nodes[0].attributes = {{.name = "lut", .value = "Relu_lut_0"}, {.name = "quant_type", .value = "S8"}};
  std::vector<int8_t> table(256);
  for (int q = 0; q < 128; ++q) table[q + 128] = static_cast<int8_t>(std::min(2 * q, 127));
  model.initializers = {int8_tensor("Relu_lut_0", {256}, table, -7)};
  model.value_infos = {int8_value("x", {1, 4}, -6), int8_value("y", {1, 4}, -7)};
  model.inputs = {model.value_infos[0]};
  model.outputs = {model.value_infos[1]};
  model.test_inputs = {int8_tensor("x", {1, 4}, {3, 100, -5, 22}, -6)};
  model.test_outputs = {int8_tensor("y", {1, 4}, {6, 127, 0, 44}, -7)};
  return model;
}

/// Every kind of field that the format can carry.
EspdlModel rich_model() {
  EspdlModel model = relu_model();
  model.model_version = 7;
  model.metadata = {{"target", "esp32p4"}, {"note", ""}};
  auto& node = model.nodes[0];
  node.domain = "com.example";
  node.inputs.push_back("");
  node.attributes = {{.name = "a", .value = int64_t{-3}},
                     {.name = "b", .value = 0.25f},
                     {.name = "c", .value = std::vector<float>{0.5f, 1.5f, -2.0f}},
                     {.name = "d", .value = std::vector<float>{0.5f, 1.5f, -2.0f}, .stored_as_doubles = true},
                     {.name = "e", .value = std::vector<int64_t>{}},
                     {.name = "f", .value = std::vector<std::string>{"p", ""}},
                     {.name = "g", .value = int8_tensor("nested", {2, 2}, {1, 2, 3, 4}, 0)}};
  model.initializers.push_back({.name = "empty",
                                .dims = {0},
                                .type = ElementType::Float,
                                .exponents = {0},
                                .doc_string = "layout ==> UNK",
                                .typed = std::vector<float>()});
  EspdlTensor scalar = int8_tensor("scalar", {}, {9}, -2);
  scalar.doc_string = "layout ==> UNK";
  model.initializers.push_back(scalar);
  model.nodes.push_back({.name = "sum", .op_type = "Add", .inputs = {"y", "scalar", "empty"}, .outputs = {"z"}});
  EspdlValueInfo z{.name = "z", .type = ElementType::Float, .exponents = {0}};
  z.shape = {{.kind = EspdlDimension::Kind::Unknown}, {.kind = EspdlDimension::Kind::Parameter, .parameter = "batch"}};
  model.value_infos.push_back(z);
  model.value_infos.push_back({.name = "", .type = ElementType::Float, .exponents = {0}});
  model.outputs = {z};
  return model;
}

void expect_equal(const EspdlModel& a, const EspdlModel& b) {
  EXPECT_EQ(a.ir_version, b.ir_version);
  EXPECT_EQ(a.model_version, b.model_version);
  EXPECT_EQ(a.metadata, b.metadata);
  EXPECT_EQ(a.graph_name, b.graph_name);
  EXPECT_TRUE(a.nodes == b.nodes);
  EXPECT_TRUE(a.initializers == b.initializers);
  EXPECT_TRUE(a.inputs == b.inputs && a.outputs == b.outputs && a.value_infos == b.value_infos);
  EXPECT_TRUE(a.test_inputs == b.test_inputs && a.test_outputs == b.test_outputs);
}

template <typename T>
T at(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// --------------------------------------------------------------------------------------------------------- bytes
TEST(EspdlFile, EveryReferenceFileIsRewrittenByteForByte) {
  const auto files = reference_files();
  EXPECT_GE(std::ssize(files), board_cases().at_least(176, 161) + peer_cases().at_least(304, 101));
  for (const auto& file : files) EXPECT_TRUE(write_espdl(read_espdl_file(file)) == read_file(file)) << file;
}

/// Offsets that esp-ppq 1.3.12 gave the same network, taken from a byte-by-byte description of its file.
TEST(EspdlFile, LaysOutAKnownFile) {
  const std::string file = write_espdl(relu_model());
  ASSERT_EQ(file.size(), 1280u);
  EXPECT_EQ(file.substr(0, 16), std::string("EDL2\0\0\0\0\xf0\x04\0\0\0\0\0\0", 16));
  const std::string payload = file.substr(16);
  EXPECT_EQ(at<uint32_t>(payload, 0), 28u);
  EXPECT_EQ(at<uint32_t>(payload, 4), 0u);
  const auto words = [&](size_t offset, size_t count) {
    std::vector<uint16_t> result(count);
    std::memcpy(result.data(), payload.data() + offset, 2 * count);
    return result;
  };
  EXPECT_EQ(words(8, 10), (std::vector<uint16_t>{20, 16, 4, 8, 0, 0, 0, 0, 0, 12})) << "model";
  EXPECT_EQ(at<int32_t>(payload, 32), 8) << "ir_version";
  EXPECT_EQ(words(48, 12), (std::vector<uint16_t>{24, 36, 16, 12, 32, 0, 8, 4, 28, 0, 24, 20})) << "graph";
  EXPECT_EQ(payload.substr(208, 16), std::string("\x06\x7f\0\x2c\0\0\0\0\0\0\0\0\0\0\0\0", 16)) << "test output";
  EXPECT_EQ(180 - at<int32_t>(payload, 180), 900) << "tensors share a field table with the table's";
  EXPECT_EQ(276 - at<int32_t>(payload, 276), 900);
  EXPECT_EQ(516 - at<int32_t>(payload, 516), 504) << "value info";
  EXPECT_EQ(712 - at<int32_t>(payload, 712), 696) << "node";
  EXPECT_EQ(words(696, 8), (std::vector<uint16_t>{16, 24, 16, 12, 8, 20, 0, 4}));
  EXPECT_EQ(932 - at<int32_t>(payload, 932), 900) << "look-up table";
  EXPECT_EQ(payload.substr(960 + 128 + 1, 3), "\x02\x04\x06");
}

TEST(EspdlFile, KeepsEveryField) {
  const EspdlModel model = rich_model();
  const EspdlModel read = read_espdl(write_espdl(model));
  expect_equal(read, model);
  EXPECT_EQ(write_espdl(read), write_espdl(model));
}

TEST(EspdlFile, KeepsAnyObjectOrderAndBothSharingRules) {
  EspdlModel model = read_espdl(write_espdl(rich_model()));
  std::mt19937 random(3);
  for (const bool ignore_size : {false, true}) {
    std::shuffle(model.layout->order.begin(), model.layout->order.end(), random);
    model.layout->vtables_ignore_size = ignore_size;
    const std::string bytes = write_espdl(model);
    const EspdlModel read = read_espdl(bytes);
    expect_equal(read, model);
    EXPECT_EQ(read.layout->order, model.layout->order);
    EXPECT_TRUE(write_espdl(read) == bytes);
  }
}

TEST(EspdlFile, RefusesAnObjectOrderThatForgetsAnObject) {
  EspdlModel model = read_espdl(write_espdl(relu_model()));
  model.layout->order.pop_back();
  EXPECT_THROW(write_payload(model), InternalError);
  model.layout->order.push_back(model.layout->order.front());
  EXPECT_THROW(write_payload(model), InternalError);
}

// ---------------------------------------------------------------------------------------------------- encryption
TEST(EspdlFile, EncryptsWithTheFormatsCounterMode) {
  // First key stream block = AES-128 of the bytes 10 .. 1f under the key 00 .. 0f (computed with OpenSSL's command
  // line).
  AesKey key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(apply_aes_128_ctr(std::string(16, '\0'), key),
            std::string("\x07\xfe\xef\x74\xe1\xd5\x03\x6e\x90\x0e\xee\x11\x8e\x94\x92\x93", 16));
  const std::string plain = write_espdl(relu_model()), hidden = write_espdl(relu_model(), key);
  ASSERT_EQ(plain.size(), hidden.size());
  EXPECT_EQ(at<uint32_t>(hidden, 4), 1u);
  EXPECT_NE(plain.substr(16), hidden.substr(16));
  expect_equal(read_espdl(hidden, {.key = key}), relu_model());
  EXPECT_THROW(read_espdl(hidden), UserError);
  key[3] ^= 1;
  EXPECT_THROW(read_espdl(hidden, {.key = key}), UserError);
  EXPECT_NE(random_key(), random_key());
}

TEST(EspdlFile, ReadsKeysAsTheyArePrinted) {
  const AesKey key = random_key();
  EXPECT_EQ(parse_key(to_text(key)), key);
  EXPECT_EQ(parse_key("000102030405060708090a0b0c0d0eff")[15], 0xff);
  EXPECT_THROW(parse_key("00"), UserError);
  EXPECT_THROW(parse_key("zz0102030405060708090a0b0c0d0eff"), UserError);
}

// ---------------------------------------------------------------------------------------------------- containers
std::string u32(uint32_t value) { return {reinterpret_cast<const char*>(&value), 4}; }

/// A package as the vendor's pack tool lays it out.
std::string package(const std::string& magic, const std::vector<std::pair<std::string, std::string>>& models) {
  const bool third = magic == "PDL3";
  std::string head = magic + (third ? std::string("v1.0", 4) + std::string(12 + 4 + 32, '\0') : "");
  head += u32(static_cast<uint32_t>(models.size()));
  std::string names, data;
  for (const auto& [name, bytes] : models) names += name;
  const size_t names_at = head.size() + 12 * models.size();
  size_t data_at = names_at + names.size(), name_at = names_at;
  if (magic != "PDL1") data_at = (data_at + 15) / 16 * 16;
  const size_t first = data_at;
  for (const auto& [name, bytes] : models) {
    head += u32(static_cast<uint32_t>(data_at + data.size())) + u32(static_cast<uint32_t>(name_at)) +
            u32(static_cast<uint32_t>(name.size()));
    name_at += name.size();
    data += magic == "PDL1" ? bytes : pad_to_blocks(bytes);
  }
  std::string result = head + names;
  result.resize(first, '\0');
  result += data;
  if (third) {
    result.replace(20, 4, u32(static_cast<uint32_t>(result.size())));
    result.replace(24, 32, sha256(result));
  }
  return result;
}

std::string first_generation(const std::string& file) { return "EDL1" + file.substr(4, 8) + file.substr(16); }

TEST(EspdlFile, ReadsEveryContainer) {
  EXPECT_EQ(sha256("abc").substr(0, 4), "\xba\x78\x16\xbf");
  const std::string relu = write_espdl(relu_model()), rich = write_espdl(rich_model());
  expect_equal(read_espdl(first_generation(relu)), relu_model());
  expect_equal(read_espdl(relu + std::string(16, '\0')), relu_model());
  for (const std::string magic : {"PDL1", "PDL2", "PDL3"}) {
    const auto inner = [&](const std::string& file) { return magic == "PDL1" ? first_generation(file) : file; };
    const std::string bytes = package(magic, {{"rich.espdl", inner(rich)}, {"relu.espdl", inner(relu)}});
    expect_equal(read_espdl(bytes, {.entry = "relu.espdl"}), relu_model());
    expect_equal(read_espdl(bytes, {.entry = "0"}), rich_model());
    EXPECT_EQ(list_container(bytes, "x").format, magic);
    EXPECT_EQ(list_container(bytes, "x").entries.at(1).name, "relu.espdl");
    EXPECT_THROW(read_espdl(bytes), UserError) << "two models, none chosen";
    EXPECT_THROW(read_espdl(bytes, {.entry = "2"}), UserError);
    EXPECT_THROW(read_espdl(package(magic, {})), UserError);
  }
  EXPECT_EQ(list_container(package("PDL3", {{"a", relu}}), "x").version, "v1.0");
  EXPECT_THROW(read_espdl(package("PDL2", {{"a", first_generation(relu)}})), UserError) << "generations mixed";
  std::string damaged = package("PDL3", {{"a", relu}});
  damaged.back() ^= 1;
  EXPECT_THROW(read_espdl(damaged), UserError);
}

// -------------------------------------------------------------------------------------------------- damaged files
/// Reading must end in a model or a UserError; whatever is read must be writable.
void survive(const std::string& bytes, int& accepted) {
  try {
    write_espdl(read_espdl(bytes));
    ++accepted;
  } catch (const UserError&) {
  }
}

TEST(EspdlFile, SurvivesTruncationAtEveryByte) {
  for (const EspdlModel& model : {relu_model(), rich_model()}) {
    const std::string bytes = write_espdl(model);
    for (size_t size = 0; size < bytes.size(); ++size)
      EXPECT_THROW(read_espdl(bytes.substr(0, size)), UserError) << size << " bytes";
    // The same with a header that claims the shorter length, which passes the envelope.
    int accepted = 0;
    for (size_t size = 16; size < bytes.size(); ++size) {
      std::string cut = bytes.substr(0, size);
      survive(cut.replace(8, 4, u32(static_cast<uint32_t>(size - 16))), accepted);
    }
    EXPECT_LT(accepted, 64) << "only the zero padding at the end may be missing";
  }
}

TEST(EspdlFile, SurvivesFlippedBits) {
  std::mt19937 random(1);
  std::vector<std::string> seeds{write_espdl(relu_model()), write_espdl(rich_model()),
                                 package("PDL2", {{"a", write_espdl(rich_model())}})};
  for (const char* name : {"esp32p4_mix_net_aud", "c_s8_linear_i_1_16_k_16_16_relu"})
    seeds.push_back(read_file(board_cases().folder / name / "model.espdl"));
  int accepted = 0;
  for (const std::string& seed : seeds) {
    // Every bit of the first part (headers and tables), then random spots, then several at once.
    for (size_t bit = 0; bit < std::min<size_t>(8 * seed.size(), 11200); ++bit) {
      std::string bytes = seed;
      bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
      survive(bytes, accepted);
    }
    for (int round = 0; round < 3000; ++round) {
      std::string bytes = seed;
      for (int flips = 1 + round % 5; flips > 0; --flips)
        bytes[random() % bytes.size()] = static_cast<char>(round % 2 ? random() : 0xff << random() % 8);
      survive(bytes, accepted);
    }
  }
  EXPECT_GT(accepted, 100) << "flips inside weights are legal models";
}

TEST(EspdlFile, RefusesTensorsWhoseBytesDoNotFitTheirShape) {
  EspdlModel model = relu_model();
  model.initializers[0].dims = {300};
  EXPECT_THROW(read_espdl(write_espdl(model)), UserError);
  model.initializers[0].dims = {int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_THROW(read_espdl(write_espdl(model)), UserError);
  model.initializers[0].dims = {-256};
  EXPECT_THROW(read_espdl(write_espdl(model)), UserError);
  model.initializers[0].dims = {256};
  model.initializers[0].type = static_cast<ElementType>(99);
  EXPECT_THROW(read_espdl(write_espdl(model)), UserError);
}

TEST(EspdlFile, NamesWhatIsWrong) {
  const auto message = [](const std::string& bytes, const EspdlReadOptions& options) -> std::string {
    try {
      read_espdl(bytes, options);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message("ELF", {.source = "net.espdl"}),
            "net.espdl: not an .espdl file: it begins with neither EDL1, EDL2, PDL1, PDL2 nor PDL3");
  EXPECT_EQ(message(write_espdl(relu_model(), random_key()), {.source = "net.espdl"}),
            "net.espdl: the model is encrypted, give its key");
  const std::string two = package("PDL2", {{"a", write_espdl(relu_model())}, {"b", write_espdl(relu_model())}});
  EXPECT_EQ(message(two, {.source = "p.espdl"}),
            "p.espdl: holds 2 models, choose one by name or position: 0 'a', 1 'b'");
}

}  // namespace
}  // namespace espq
