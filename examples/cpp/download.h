// Resumable downloads.

#pragma once

#include <filesystem>
#include <string>

#include "connection.h"

/// Fetches a result, after a cut what is missing of it, and checks every message and the whole. The file appears under its
/// name when it is whole. Returns its SHA-256.
std::string Download(Connection& connection, int user_id, const std::string& artifact_id,
                     const std::filesystem::path& path);
