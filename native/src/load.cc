// SPDX-License-Identifier: Apache-2.0
#include "load.h"

#include <errno.h>

#include <memory>
#include <vector>

#include "log.h"
#include "memory.h"

namespace fairlead {

namespace {

// Room for a program's verifier log. Only the pages the verifier writes to cost anything, and it
// writes only when it refuses: libbpf asks for a log on its second try.
constexpr size_t kLogSize = 16 << 20;

struct ProgramLog {
  std::string program;
  std::unique_ptr<Buffer> buffer;
};

std::vector<ProgramLog> KeepLogs(bpf_object* object) {
  std::vector<ProgramLog> logs;
  bpf_program* program;
  bpf_object__for_each_program(program, object) {
    if (!bpf_program__autoload(program)) continue;
    auto buffer = std::make_unique<Buffer>();
    if (!buffer->Reserve(kLogSize)) continue;
    auto* text = reinterpret_cast<char*>(buffer->data());
    text[0] = '\0';
    bpf_program__set_log_buf(program, text, kLogSize);
    logs.push_back({bpf_program__name(program), std::move(buffer)});
  }
  return logs;
}

// The verifier ends with statistics; the reason is the last line before them.
bool Statistics(const std::string& line) {
  for (const char* start : {"processed ", "verification time", "stack depth"}) {
    if (line.rfind(start, 0) == 0) return true;
  }
  return false;
}

std::string LastUsefulLine(const std::string& log) {
  std::string useful;
  size_t lines = 0;
  for (size_t start = 0; start < log.size();) {
    size_t end = std::min(log.find('\n', start), log.size());
    std::string line = log.substr(start, end - start);
    start = end + 1;
    if (line.empty()) continue;
    lines++;
    if (!Statistics(line)) useful = std::move(line);
  }
  return useful + " (" + std::to_string(lines > 0 ? lines - 1 : 0) + " lines left out)";
}

}  // namespace

Result LoadElf(bpf_object* object, const std::string& path) {
  std::vector<ProgramLog> logs = KeepLogs(object);
  Reason reason;
  if (bpf_object__load(object) == 0) return std::nullopt;
  int error = errno;
  for (const ProgramLog& entry : logs) {
    auto* text = reinterpret_cast<const char*>(entry.buffer->data());
    if (text[0] == '\0') continue;
    Failure failure = PlainFailure("VERIFIER", "load program " + Quoted(entry.program),
                                   "bpf_prog_load", entry.program, LastUsefulLine(text));
    failure.number = error;
    failure.log = text;
    return failure;
  }
  return SystemFailure(error, "load object " + Quoted(path), "bpf_object__load", path,
                       reason.text());
}

}  // namespace fairlead
