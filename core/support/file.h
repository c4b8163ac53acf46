#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace espq {

/// Whole file as bytes. Throws UserError naming the file.
std::string read_file(const std::filesystem::path& file);
/// Writes to a temporary name beside the target and renames: the file appears whole or not at all.
void write_file(const std::filesystem::path& file, std::string_view bytes);
/// The same for files that belong together: nothing is renamed before everything is written.
void write_files(const std::vector<std::pair<std::filesystem::path, std::string>>& files);

}  // namespace espq
