#include "export/espdl/container.h"

#include <charconv>
#include <cstring>

#include "core/support/error.h"

namespace espq {
namespace {

constexpr size_t kPdl3HashAt = 24, kPdl3HashSize = 32;

uint32_t read_u32(std::string_view bytes, size_t at, const std::string& source) {
  user_check(bytes.size() >= 4 && at <= bytes.size() - 4, "{}: file ends inside its header (truncated?)", source);
  const auto* p = reinterpret_cast<const unsigned char*>(bytes.data()) + at;
  return p[0] | p[1] << 8 | p[2] << 16 | static_cast<uint32_t>(p[3]) << 24;
}

void append_u32(std::string& bytes, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xff);
}

std::string_view slice(std::string_view bytes, uint64_t from, uint64_t size, const std::string& source) {
  user_check(from <= bytes.size() && size <= bytes.size() - from,
             "{}: {} bytes at offset {} reach beyond the {} bytes of the file (truncated?)", source, size, from,
             bytes.size());
  return bytes.substr(from, size);
}

size_t header_size(std::string_view envelope) { return envelope.starts_with("EDL1") ? 12 : 16; }

/// Directory rows {data offset, name offset, name length} starting at `table`.
void list_package(std::string_view bytes, size_t table, std::string_view inner, Container& container,
                  const std::string& source) {
  const uint64_t count = read_u32(bytes, table - 4, source);
  user_check(count > 0, "{}: package without models", source);
  slice(bytes, table, 12 * count, source);
  for (size_t i = 0; i < count; ++i) {
    const size_t row = table + 12 * i;
    const uint32_t data = read_u32(bytes, row, source);
    const auto name = slice(bytes, read_u32(bytes, row + 4, source), read_u32(bytes, row + 8, source), source);
    const auto head = slice(bytes, data, 12, source);
    user_check(head.starts_with(inner), "{}: model {} of the package is not in the {} format", source, i, inner);
    const uint64_t size = header_size(head) + uint64_t{read_u32(head, 8, source)};
    container.entries.push_back({std::string(name), slice(bytes, data, size, source)});
  }
}

void check_hash(std::string_view package, const std::string& source) {
  std::string hashed(package);
  std::memset(hashed.data() + kPdl3HashAt, 0, kPdl3HashSize);
  user_check(sha256(hashed) == package.substr(kPdl3HashAt, kPdl3HashSize),
             "{}: the package's SHA-256 does not match its contents: the file is damaged", source);
}

}  // namespace

Container list_container(std::string_view bytes, const std::string& source) {
  Container container;
  container.format = bytes.substr(0, 4);
  if (container.format == "EDL1" || container.format == "EDL2") {
    const uint64_t size = header_size(bytes) + uint64_t{read_u32(bytes, 8, source)};
    container.entries.push_back({"", slice(bytes, 0, size, source)});
  } else if (container.format == "PDL1" || container.format == "PDL2") {
    list_package(bytes, 8, container.format == "PDL1" ? "EDL1" : "EDL2", container, source);
  } else if (container.format == "PDL3") {
    const auto package = slice(bytes, 0, read_u32(bytes, 20, source), source);
    user_check(package.size() >= 60, "{}: package of {} bytes is smaller than its header", source, package.size());
    check_hash(package, source);
    container.version = std::string(package.substr(4, 16)).c_str();
    list_package(package, 60, "EDL2", container, source);
  } else {
    user_error("{}: not an .espdl file: it begins with neither EDL1, EDL2, PDL1, PDL2 nor PDL3", source);
  }
  return container;
}

const ContainerEntry& select_entry(const Container& container, std::string_view selection, const std::string& source) {
  const auto& entries = container.entries;
  if (selection.empty() && entries.size() == 1) return entries.front();
  for (const auto& entry : entries)
    if (!selection.empty() && entry.name == selection) return entry;
  size_t index = 0;
  const auto [end, status] = std::from_chars(selection.data(), selection.data() + selection.size(), index);
  const bool number = !selection.empty() && status == std::errc{} && end == selection.data() + selection.size();
  if (number && index < entries.size()) return entries[index];
  std::string names;
  for (size_t i = 0; i < entries.size(); ++i) names += fmt::format("{}{} '{}'", i ? ", " : "", i, entries[i].name);
  if (selection.empty())
    user_error("{}: holds {} models, choose one by name or position: {}", source, entries.size(), names);
  user_error("{}: has no model '{}'; it holds {}", source, selection, names);
}

bool is_encrypted(std::string_view envelope) { return read_u32(envelope, 4, "model") == 1; }

std::string open_envelope(std::string_view envelope, const AesKey* key, const std::string& source) {
  const uint32_t mode = read_u32(envelope, 4, source);
  user_check(mode <= 1, "{}: encryption mode {} is unknown (0 = none, 1 = AES-128-CTR)", source, mode);
  const auto payload = slice(envelope, header_size(envelope), read_u32(envelope, 8, source), source);
  if (mode == 0) return std::string(payload);
  user_check(key != nullptr, "{}: the model is encrypted, give its key", source);
  return apply_aes_128_ctr(payload, *key);
}

std::string make_envelope(std::string_view payload, const AesKey* key) {
  std::string bytes = "EDL2";
  append_u32(bytes, key ? 1 : 0);
  append_u32(bytes, static_cast<uint32_t>(payload.size()));
  append_u32(bytes, 0);
  return key ? bytes + apply_aes_128_ctr(payload, *key) : bytes.append(payload);
}

}  // namespace espq
