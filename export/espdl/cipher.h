#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace espq {

using AesKey = std::array<uint8_t, 16>;

/// AES-128 in counter mode with the format's fixed first counter block 10 11 .. 1f; the same call decrypts.
std::string apply_aes_128_ctr(std::string_view bytes, const AesKey& key);
/// From the operating system's generator.
AesKey random_key();
/// "0x48, 0x2d, ..." as esp-ppq prints it.
std::string to_text(const AesKey& key);
/// 32 hexadecimal digits, or 16 numbers such as "0x48, 0x2d, ...". Throws UserError.
AesKey parse_key(std::string_view text);
/// 32 bytes.
std::string sha256(std::string_view bytes);

}  // namespace espq
