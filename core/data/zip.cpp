#include "core/data/zip.h"

#include <zlib.h>

#include <cstdint>
#include <limits>

#include "core/support/error.h"

namespace espq {
namespace {

// Records of the ZIP format (PKWARE APPNOTE 4.3): signature and size of the fixed part.
constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr size_t kLocalHeaderSize = 30, kDirectoryEntrySize = 46, kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20;
constexpr uint16_t kZip64Extra = 1, kEncryptedFlag = 1, kStored = 0, kDeflated = 8;
// Deflate cannot shrink data by more than this (a 258-byte match costs two bits): a larger claim is a lie.
constexpr uint64_t kLargestDeflateRatio = 1032;

struct Reader {
  std::string_view bytes;
  const std::string& file;

  std::string_view slice(uint64_t offset, uint64_t size) const {
    user_check(offset <= bytes.size() && size <= bytes.size() - offset, "{}: the zip archive is truncated or damaged",
               file);
    return bytes.substr(offset, size);
  }
  template <typename T>
  T number(uint64_t offset) const {
    const std::string_view raw = slice(offset, sizeof(T));
    T value = 0;
    for (size_t i = sizeof(T); i-- > 0;) value = static_cast<T>((value << 8) | static_cast<uint8_t>(raw[i]));
    return value;
  }
};

struct Directory {
  uint64_t count, offset;
};

Directory find_directory(const Reader& reader) {
  const size_t size = reader.bytes.size();
  user_check(size >= kEndSize, "{}: is not a zip archive (an .npz file is one)", reader.file);
  // The end record is followed by a comment of at most 65535 bytes, usually by none.
  for (size_t back = kEndSize; back <= size && back <= kEndSize + 0xffff; ++back) {
    const uint64_t end = size - back;
    if (reader.number<uint32_t>(end) != kEnd) continue;
    if (reader.number<uint16_t>(end + 20) != back - kEndSize) continue;
    Directory directory{reader.number<uint16_t>(end + 10), reader.number<uint32_t>(end + 16)};
    if (end >= kLocatorSize && reader.number<uint32_t>(end - kLocatorSize) == kEnd64Locator) {
      const uint64_t end64 = reader.number<uint64_t>(end - kLocatorSize + 8);
      reader.slice(end64, kEnd64Size);
      user_check(reader.number<uint32_t>(end64) == kEnd64, "{}: the zip archive is damaged", reader.file);
      directory = {reader.number<uint64_t>(end64 + 32), reader.number<uint64_t>(end64 + 48)};
    }
    return directory;
  }
  user_error("{}: is not a zip archive or is truncated (an .npz file is one)", reader.file);
}

struct Entry {
  std::string name;
  uint16_t flags, method;
  uint32_t checksum;
  uint64_t compressed, uncompressed, local_header;
};

/// Fields that do not fit 32 bits stand in the extra record 1, in this order, only those that are needed.
void read_zip64_extra(const Reader& reader, uint64_t extra, uint64_t size, Entry& entry) {
  const uint64_t end = extra + size;
  while (extra + 4 <= end) {
    const uint16_t id = reader.number<uint16_t>(extra), length = reader.number<uint16_t>(extra + 2);
    extra += 4;
    user_check(extra + length <= end, "{}: the zip archive is damaged", reader.file);
    if (id == kZip64Extra) {
      uint64_t field = extra;
      for (uint64_t* value : {&entry.uncompressed, &entry.compressed, &entry.local_header}) {
        if (*value != std::numeric_limits<uint32_t>::max()) continue;
        user_check(field + 8 <= extra + length, "{}: the zip archive is damaged", reader.file);
        *value = reader.number<uint64_t>(field);
        field += 8;
      }
      return;
    }
    extra += length;
  }
}

/// Reads one directory entry and moves `offset` behind it.
Entry read_entry(const Reader& reader, uint64_t& offset) {
  reader.slice(offset, kDirectoryEntrySize);
  user_check(reader.number<uint32_t>(offset) == kDirectoryEntry, "{}: the zip directory is damaged", reader.file);
  const uint16_t name = reader.number<uint16_t>(offset + 28), extra = reader.number<uint16_t>(offset + 30);
  const uint16_t comment = reader.number<uint16_t>(offset + 32);
  Entry entry{std::string(reader.slice(offset + kDirectoryEntrySize, name)),
              reader.number<uint16_t>(offset + 8),
              reader.number<uint16_t>(offset + 10),
              reader.number<uint32_t>(offset + 16),
              reader.number<uint32_t>(offset + 20),
              reader.number<uint32_t>(offset + 24),
              reader.number<uint32_t>(offset + 42)};
  const uint64_t extra_offset = offset + kDirectoryEntrySize + name;
  reader.slice(extra_offset, extra);
  read_zip64_extra(reader, extra_offset, extra, entry);
  offset = extra_offset + extra + comment;
  return entry;
}

std::string inflate_raw(std::string_view compressed, uint64_t size, const std::string& where) {
  user_check(size / kLargestDeflateRatio <= compressed.size() && size < std::numeric_limits<uInt>::max() &&
                 compressed.size() < std::numeric_limits<uInt>::max(),
             "{}: claims {} bytes, more than its {} compressed bytes can hold", where, size, compressed.size());
  std::string content(size, '\0');
  z_stream stream{};
  internal_check(inflateInit2(&stream, -MAX_WBITS) == Z_OK, "zlib cannot start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  stream.next_out = reinterpret_cast<Bytef*>(content.data());
  stream.avail_out = static_cast<uInt>(size);
  const int status = inflate(&stream, Z_FINISH);
  const bool complete = status == Z_STREAM_END && stream.avail_out == 0;
  inflateEnd(&stream);
  user_check(complete, "{}: the compressed data is damaged", where);
  return content;
}

}  // namespace

void read_zip(std::string_view archive, const std::string& file,
              const std::function<void(const std::string& name, std::string_view content)>& entry_function) {
  const Reader reader{archive, file};
  const Directory directory = find_directory(reader);
  uint64_t offset = directory.offset, consumed = 0;
  for (uint64_t i = 0; i < directory.count; ++i) {
    const Entry entry = read_entry(reader, offset);
    const std::string where = file + ": " + entry.name;
    user_check((entry.flags & kEncryptedFlag) == 0, "{}: is encrypted, write the archive without a password", where);
    user_check(entry.method == kStored || entry.method == kDeflated,
               "{}: uses compression method {}, only stored and deflated entries can be read", where, entry.method);
    reader.slice(entry.local_header, kLocalHeaderSize);
    user_check(reader.number<uint32_t>(entry.local_header) == kLocalHeader, "{}: the zip archive is damaged", where);
    const uint64_t data = entry.local_header + kLocalHeaderSize + reader.number<uint16_t>(entry.local_header + 26) +
                          reader.number<uint16_t>(entry.local_header + 28);
    const std::string_view compressed = reader.slice(data, entry.compressed);
    // Entries that share their bytes would let a small file expand without limit.
    consumed += entry.compressed;
    user_check(consumed <= archive.size(), "{}: entries of the zip archive overlap", file);
    std::string inflated;
    if (entry.method == kDeflated) inflated = inflate_raw(compressed, entry.uncompressed, where);
    const std::string_view content = entry.method == kDeflated ? std::string_view(inflated) : compressed;
    user_check(content.size() == entry.uncompressed, "{}: has another size than the zip directory says", where);
    const uint32_t checksum = static_cast<uint32_t>(
        crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(content.data()), content.size()));
    user_check(checksum == entry.checksum, "{}: checksum mismatch, the file is damaged", where);
    entry_function(entry.name, content);
  }
}

}  // namespace espq
