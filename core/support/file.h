#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace espq {

/// Whole file as bytes. Throws UserError naming the file.
std::string read_file(const std::filesystem::path& file);
/// Writes to a temporary name beside the target and renames: the file appears whole or not at all.
void write_file(const std::filesystem::path& file, std::string_view bytes);

}  // namespace espq
