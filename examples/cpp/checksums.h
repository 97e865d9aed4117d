// The two checksums of transfers: CRC32C of each message, SHA-256 of the whole file.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

/// CRC32C (Castagnoli).
uint32_t Crc32c(std::string_view data);

/// SHA-256 of a file, 64 lower-case hexadecimal digits.
std::string Sha256OfFile(const std::filesystem::path& path);

/// `bytes` random bytes as lower-case hexadecimal digits.
std::string RandomHex(size_t bytes);

/// A random UUID (version 4), for request_id.
std::string RandomUuid();
