// Prometheus text (format 0.0.4) put together from several sources: families of our own, and the
// texts that replicators give, each with labels added that say where it comes from. Samples of one
// family stand together whatever source they are of, as the format demands.
//
// Threads: a value.
// INVARIANTS: a family has one type; a line that is no sample, or would change a family's type, is
// left out and counted; families and bytes are bounded.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace antipode::web {

class Exposition {
  public:
    using Labels = std::vector<std::pair<std::string_view, std::string_view>>;
    static constexpr size_t kBytesMax = size_t{16} << 20;

    void family(std::string_view name, std::string_view type, std::string_view help);
    // Of a family declared before; NaN is left out.
    void sample(std::string_view name, const Labels& labels, double value);
    // Another registry's text, with `labels` put in front of each sample's own.
    void merge(std::string_view text, const Labels& labels);

    std::string text() const;
    uint64_t rejected() const { return rejected_; }

  private:
    struct Family {
        std::string type;
        std::string help;
        std::string samples;
    };
    void merge_line(std::string_view line, const std::string& labels);
    // The family that a sample's name belongs to: histograms and summaries have suffixes.
    Family* family_of(std::string_view sample_name);

    std::map<std::string, Family, std::less<>> families_;
    size_t bytes_ = 0;
    uint64_t rejected_ = 0;
};

}  // namespace antipode::web
