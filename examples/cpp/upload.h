// Resumable uploads.

#pragma once

#include <filesystem>
#include <string>

#include "connection.h"

/// Sends a file, and what is missing of it again after a cut. Returns the upload's id.
std::string Upload(Connection& connection, int user_id, const std::filesystem::path& path);
