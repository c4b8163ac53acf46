#pragma once
#include <gtest/gtest.h>

#include <filesystem>

/// Folder of the reference collection; the environment variable wins over the build option.
inline std::filesystem::path reference_data() {
  const char* chosen = std::getenv("ESPQ_REFERENCE_DATA");
  return chosen && *chosen ? chosen : ESPQ_REFERENCE_DATA;
}

#define ESPQ_REQUIRE_REFERENCE_DATA(folder)                  \
  if (!std::filesystem::exists(reference_data() / (folder))) \
  GTEST_SKIP() << "skipped: no reference data at " << (reference_data() / (folder))
