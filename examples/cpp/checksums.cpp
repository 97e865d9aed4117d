#include "checksums.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

constexpr uint32_t kReversedPolynomial = 0x82F63B78;
constexpr size_t kReadBytes = 1 << 20;

std::array<uint32_t, 256> MakeTable() {
    std::array<uint32_t, 256> table{};
    for (uint32_t byte = 0; byte < table.size(); ++byte) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) {
            value = (value >> 1) ^ ((value & 1) != 0 ? kReversedPolynomial : 0);
        }
        table[byte] = value;
    }
    return table;
}

std::string Hex(const unsigned char* data, size_t size) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (size_t i = 0; i < size; ++i) {
        text += kDigits[data[i] >> 4];
        text += kDigits[data[i] & 15];
    }
    return text;
}

std::vector<unsigned char> RandomBytes(size_t count) {
    std::vector<unsigned char> bytes(count);
    if (RAND_bytes(bytes.data(), static_cast<int>(count)) != 1) {
        throw std::runtime_error("there are no random numbers");
    }
    return bytes;
}

}  // namespace

uint32_t Crc32c(std::string_view data) {
    static const std::array<uint32_t, 256> kTable = MakeTable();
    uint32_t value = ~0U;
    for (const unsigned char byte : data) {
        value = (value >> 8) ^ kTable[(value ^ byte) & 0xFF];
    }
    return ~value;
}

std::string Sha256OfFile(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr);
    std::string buffer(kReadBytes, '\0');
    while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0) {
        EVP_DigestUpdate(hash.get(), buffer.data(), static_cast<size_t>(file.gcount()));
    }
    if (!file.eof()) {
        throw std::runtime_error("cannot read " + path.string());
    }
    std::array<unsigned char, 32> digest{};
    EVP_DigestFinal_ex(hash.get(), digest.data(), nullptr);
    return Hex(digest.data(), digest.size());
}

std::string RandomHex(size_t bytes) {
    const auto random = RandomBytes(bytes);
    return Hex(random.data(), random.size());
}

std::string RandomUuid() {
    auto random = RandomBytes(16);
    random[6] = (random[6] & 0x0F) | 0x40;
    random[8] = (random[8] & 0x3F) | 0x80;
    std::string text = Hex(random.data(), random.size());
    for (const size_t place : {20, 16, 12, 8}) {
        text.insert(place, "-");
    }
    return text;
}
