#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace espq {

/// Calls `entry` with name and content of every file in a zip archive held in memory, in directory order.
/// Knows stored and deflated entries and 64-bit sizes. Checks sizes before it allocates and checksums afterwards.
/// Throws UserError that starts with `file`.
void read_zip(std::string_view archive, const std::string& file,
              const std::function<void(const std::string& name, std::string_view content)>& entry);

}  // namespace espq
