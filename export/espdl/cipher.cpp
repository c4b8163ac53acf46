#include "export/espdl/cipher.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <memory>
#include <numeric>

#include "core/support/error.h"

namespace espq {

std::string apply_aes_128_ctr(std::string_view bytes, const AesKey& key) {
  AesKey counter;
  std::iota(counter.begin(), counter.end(), uint8_t{0x10});
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                &EVP_CIPHER_CTX_free);
  internal_check(context && EVP_EncryptInit_ex(context.get(), EVP_aes_128_ctr(), nullptr, key.data(), counter.data()),
                 "AES-128-CTR is not available in libcrypto");
  std::string result(bytes.size(), '\0');
  int written = 0;
  const bool done =
      EVP_EncryptUpdate(context.get(), reinterpret_cast<unsigned char*>(result.data()), &written,
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  internal_check(done && written == static_cast<int>(bytes.size()), "AES-128-CTR failed");
  return result;
}

AesKey random_key() {
  AesKey key;
  internal_check(RAND_bytes(key.data(), static_cast<int>(key.size())) == 1, "no random numbers for a key");
  return key;
}

std::string to_text(const AesKey& key) { return fmt::format("0x{:02x}", fmt::join(key, ", 0x")); }

AesKey parse_key(std::string_view text) {
  std::string digits;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '0' && at + 1 < text.size() && (text[at + 1] == 'x' || text[at + 1] == 'X')) {
      ++at;
      continue;
    }
    if (text[at] == ',' || text[at] == ' ') continue;
    user_check(std::isxdigit(static_cast<unsigned char>(text[at])),
               "key: '{}' is no hexadecimal digit; give 32 of them, or 16 numbers such as 0x48", text[at]);
    digits += text[at];
  }
  AesKey key;
  user_check(digits.size() == 2 * key.size(), "key: {} hexadecimal digits, an AES-128 key has 32", digits.size());
  for (size_t i = 0; i < key.size(); ++i)
    key[i] = static_cast<uint8_t>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  return key;
}

std::string sha256(std::string_view bytes) {
  std::string digest(32, '\0');
  internal_check(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()), nullptr,
                            EVP_sha256(), nullptr) == 1,
                 "SHA-256 is not available in libcrypto");
  return digest;
}

}  // namespace espq
