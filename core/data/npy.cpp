#include <ATen/ATen.h>

#include <array>
#include <charconv>
#include <cstring>
#include <numeric>

#include "core/data/dataset.h"
#include "core/data/zip.h"
#include "core/support/error.h"
#include "core/support/file.h"

namespace espq {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kHeaderAlignment = 64;

struct TypeName {
  std::string_view code;  ///< NumPy's kind and size in bytes
  at::ScalarType dtype;
};
constexpr std::array kTypes = {
    TypeName{"b1", at::kBool},   TypeName{"i1", at::kChar}, TypeName{"i2", at::kShort},  TypeName{"i4", at::kInt},
    TypeName{"i8", at::kLong},   TypeName{"u1", at::kByte}, TypeName{"u2", at::kUInt16}, TypeName{"u4", at::kUInt32},
    TypeName{"u8", at::kUInt64}, TypeName{"f2", at::kHalf}, TypeName{"f4", at::kFloat},  TypeName{"f8", at::kDouble},
};

struct Header {
  std::string dtype;
  bool fortran_order = false;
  Shape shape;
};

/// Parses the header: a Python dictionary with the three keys descr, fortran_order and shape, in any order.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Header parse() {
    Header header;
    bool dtype = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr") {
        user_check(peek() != '[', "{}: has a structured dtype, save plain arrays instead", file_);
        header.dtype = string();
        dtype = true;
      } else if (key == "fortran_order") {
        header.fortran_order = boolean();
        order = true;
      } else if (key == "shape") {
        header.shape = tuple();
        shape = true;
      } else {
        fail();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!dtype || !order || !shape || peek() != '\0') fail();
    return header;
  }

 private:
  [[noreturn]] void fail() const { user_error("{}: the .npy header is damaged", file_); }
  char peek() {
    while (position_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[position_]))) ++position_;
    return position_ < text_.size() ? text_[position_] : '\0';
  }
  bool accept(char character) {
    if (peek() != character) return false;
    ++position_;
    return true;
  }
  void expect(char character) {
    if (!accept(character)) fail();
  }
  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail();
    const size_t end = text_.find(quote, ++position_);
    if (end == std::string_view::npos) fail();
    std::string value(text_.substr(position_, end - position_));
    position_ = end + 1;
    return value;
  }
  bool boolean() {
    peek();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (text_.substr(position_, word.size()) == word) {
        position_ += word.size();
        return value;
      }
    }
    fail();
  }
  Shape tuple() {
    Shape shape;
    expect('(');
    while (!accept(')')) {
      peek();
      int64_t value = 0;
      const auto [end, status] = std::from_chars(text_.data() + position_, text_.data() + text_.size(), value);
      if (status != std::errc() || value < 0 || shape.size() >= 64) fail();
      position_ = end - text_.data();
      accept('L');  // written by Python 2
      shape.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  const std::string& file_;
  size_t position_ = 0;
};

at::ScalarType find_dtype(const std::string& name, const std::string& file) {
  const char order = name.empty() ? '\0' : name[0];
  user_check(order != '>', "{}: is big-endian ('{}'), save it in little-endian order", file, name);
  for (const TypeName& type : kTypes) {
    if ((order == '<' || order == '|' || order == '=') && name.substr(1) == type.code) return type.dtype;
  }
  user_error("{}: dtype '{}' is not supported, use bool, an integer or a float of 16 to 64 bits", file, name);
}

at::Tensor parse_npy(std::string_view bytes, const std::string& file) {
  user_check(bytes.size() >= 10 && bytes.substr(0, kMagic.size()) == kMagic, "{}: is not a .npy file", file);
  const auto byte = [&](size_t index) { return static_cast<size_t>(static_cast<uint8_t>(bytes[index])); };
  const size_t version = byte(6);
  user_check(version >= 1 && version <= 3, "{}: .npy format version {} is unknown (1 to 3 are)", file, version);
  const size_t length_bytes = version == 1 ? 2 : 4, start = 8 + length_bytes;
  user_check(bytes.size() >= start, "{}: is truncated", file);
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= byte(8 + i) << (8 * i);
  user_check(length <= bytes.size() - start, "{}: is truncated within its header", file);
  const Header header = HeaderParser(bytes.substr(start, length), file).parse();
  const at::ScalarType dtype = find_dtype(header.dtype, file);

  const std::string_view data = bytes.substr(start + length);
  uint64_t needed = c10::elementSize(dtype);
  bool fits = true;
  const bool empty = std::find(header.shape.begin(), header.shape.end(), 0) != header.shape.end();
  for (int64_t dim : header.shape) fits = fits && !__builtin_mul_overflow(needed, static_cast<uint64_t>(dim), &needed);
  if (empty) needed = 0;
  user_check((fits || empty) && needed == data.size(), "{}: holds {} bytes of data where its shape [{}] needs {}", file,
             data.size(), fmt::join(header.shape, ", "), fits || empty ? fmt::format("{}", needed) : "more than any");

  Shape stored = header.shape;
  if (header.fortran_order) std::reverse(stored.begin(), stored.end());
  at::Tensor tensor = at::empty(stored, dtype);
  if (needed > 0) std::memcpy(tensor.mutable_data_ptr(), data.data(), needed);
  if (dtype == at::kBool) {
    const auto* flags = static_cast<const uint8_t*>(tensor.const_data_ptr());
    user_check(std::all_of(flags, flags + needed, [](uint8_t flag) { return flag <= 1; }),
               "{}: holds bool values other than 0 and 1", file);
  }
  if (!header.fortran_order) return tensor;
  std::vector<int64_t> reversed(stored.size());
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  return tensor.permute(reversed).contiguous();
}

}  // namespace

at::Tensor read_npy(const std::filesystem::path& file) { return parse_npy(read_file(file), file.string()); }

std::map<std::string, at::Tensor> read_npz(const std::filesystem::path& file) {
  std::map<std::string, at::Tensor> arrays;
  read_zip(read_file(file), file.string(), [&](const std::string& name, std::string_view content) {
    const std::string key = name.ends_with(".npy") ? name.substr(0, name.size() - 4) : name;
    user_check(arrays.emplace(key, parse_npy(content, file.string() + ": " + name)).second,
               "{}: holds the array '{}' twice", file.string(), key);
  });
  return arrays;
}

void write_npy(const std::filesystem::path& file, const at::Tensor& tensor) {
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const TypeName& known) { return known.dtype == tensor.scalar_type(); });
  user_check(type != kTypes.end(), "{}: NumPy has no dtype for {}", file.string(), c10::toString(tensor.scalar_type()));
  const at::Tensor data = tensor.detach().cpu().contiguous();
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                   data.element_size() == 1 ? '|' : '<', type->code, fmt::join(data.sizes(), ", "),
                                   data.dim() == 1 ? "," : "");
  // The data starts at a multiple of 64 bytes; a line break ends the header.
  const size_t unpadded = kMagic.size() + 4 + header.size() + 1;
  header.append((kHeaderAlignment - unpadded % kHeaderAlignment) % kHeaderAlignment, ' ');
  header += '\n';
  std::string bytes(kMagic);
  bytes += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  bytes += header;
  bytes.append(static_cast<const char*>(data.const_data_ptr()), data.nbytes());
  write_file(file, bytes);
}

}  // namespace espq
