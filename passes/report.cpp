#include "passes/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace espq {
namespace {

constexpr size_t kNamesShown = 3;

void add_to(std::vector<ReportEntry>& entries, ReportEntry added) {
  if (added.count == 0) return;
  const auto known = std::find_if(entries.begin(), entries.end(), [&](const ReportEntry& entry) {
    return entry.what == added.what && entry.where == added.where;
  });
  if (known == entries.end())
    entries.push_back(std::move(added));
  else
    known->count += added.count;
}

/// All entries called `what`: "what x 3 (first, second, ...)".
std::string summary(const std::vector<ReportEntry>& entries, const std::string& what) {
  int64_t count = 0;
  std::vector<std::string> names;
  for (const ReportEntry& entry : entries) {
    if (entry.what != what) continue;
    count += entry.count;
    if (!entry.where.empty()) names.push_back(entry.where);
  }
  std::string text = count == 1 ? what : fmt::format("{} x {}", what, count);
  if (names.empty()) return text;
  if (names.size() > kNamesShown) {
    names.resize(kNamesShown);
    names.emplace_back("...");
  }
  return text + fmt::format(" ({})", fmt::join(names, ", "));
}

std::string summary(const std::vector<ReportEntry>& entries) {
  std::vector<std::string> parts, seen;
  for (const ReportEntry& entry : entries) {
    if (std::find(seen.begin(), seen.end(), entry.what) != seen.end()) continue;
    seen.push_back(entry.what);
    parts.push_back(summary(entries, entry.what));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

void PassReport::count(std::string what, std::string where, int64_t times) {
  add_to(changes, {std::move(what), std::move(where), times});
}

void PassReport::note(std::string what, int64_t times) { add_to(notes, {std::move(what), {}, times}); }

int64_t PassReport::total() const {
  int64_t sum = 0;
  for (const ReportEntry& entry : changes) sum += entry.count;
  return sum;
}

int64_t PassReport::times(std::string_view what) const {
  int64_t sum = 0;
  for (const auto* entries : {&changes, &notes})
    for (const ReportEntry& entry : *entries)
      if (entry.what == what) sum += entry.count;
  return sum;
}

void PassReport::merge(const PassReport& other) {
  for (const ReportEntry& entry : other.changes) add_to(changes, entry);
  for (const ReportEntry& entry : other.notes) add_to(notes, entry);
  warnings.insert(warnings.end(), other.warnings.begin(), other.warnings.end());
  seconds += other.seconds;
  runs += other.runs;
}

void Report::merge(const PassReport& pass) {
  for (PassReport& known : passes)
    if (known.pass == pass.pass) return known.merge(pass);
  passes.push_back(pass);
}

void Report::append(Report other) {
  for (PassReport& pass : other.passes) passes.push_back(std::move(pass));
}

bool Report::changed() const {
  return std::any_of(passes.begin(), passes.end(), [](const PassReport& pass) { return pass.changed(); });
}

double Report::seconds() const {
  double sum = 0;
  for (const PassReport& pass : passes) sum += pass.seconds;
  return sum;
}

std::vector<std::string> Report::warnings() const {
  std::vector<std::string> all;
  for (const PassReport& pass : passes) all.insert(all.end(), pass.warnings.begin(), pass.warnings.end());
  return all;
}

const PassReport* Report::find(std::string_view pass) const {
  const auto found =
      std::find_if(passes.begin(), passes.end(), [&](const PassReport& one) { return one.pass == pass; });
  return found == passes.end() ? nullptr : &*found;
}

std::string to_text(const PassReport& report) {
  std::string text = fmt::format("{} ({:.3f} s): ", report.pass, report.seconds);
  text += report.changed() ? summary(report.changes) : report.notes.empty() ? "nothing to do" : "nothing changed";
  if (!report.notes.empty()) text += "; " + summary(report.notes);
  return text;
}

std::string to_text(const Report& report) {
  std::string text;
  for (const PassReport& pass : report.passes)
    if (pass.changed()) text += to_text(pass) + "\n";
  return text;
}

}  // namespace espq
