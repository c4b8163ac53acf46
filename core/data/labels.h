#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace espq {

/// Class numbers for samples named `stems`, in their order. The file is
/// - .npy: integers, one per sample, in the order of the samples;
/// - .json: a list of integers in that order, or an object {"STEM": integer};
/// - anything else: text, one label per line in that order, or "STEM LABEL" with a space, tab, comma or semicolon
///   between; empty lines and lines that begin with '#' do not count.
/// A list may be longer or shorter than the samples (files with several samples have several labels); whoever uses it
/// compares. Throws UserError naming the file: unreadable, no integers, a sample without a label.
std::vector<int64_t> read_labels(const std::filesystem::path& file, const std::vector<std::string>& stems);

}  // namespace espq
