// What stands in for libFuzzer where there is none: runs the seeds of a directory, then mutations
// of them that are the same in every run.
//
//   fuzz_NAME [--mutations N] [--seed S] DIRECTORY
//   fuzz_NAME [--seed S] --only I --save FILE DIRECTORY      writes input I and runs it alone
//
// The inputs run in a child process. If it dies, the parent knows which input it was and says how
// to run that one again.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "common/base/log.h"
#include "common/base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kInputBytesMax = 64 * 1024;

struct Options {
    uint64_t mutations = 20000;
    uint64_t seed = 1;
    std::optional<uint64_t> only;
    std::string save;
    std::string directory;
};

// By name, so that an input's number means the same everywhere.
std::vector<Bytes> read_seeds(const std::string& directory) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (entry.is_regular_file()) paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    std::vector<Bytes> seeds{{}};  // the empty input is always one
    for (const auto& path : paths) {
        std::ifstream file(path, std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    return seeds;
}

void mutate_once(Bytes& input, const Bytes& other, antipode::Random& random) {
    constexpr std::array<uint8_t, 7> kEdges{0, 1, 2, 0x7f, 0x80, 0xfe, 0xff};
    const size_t at = input.empty() ? 0 : random.below(input.size());
    switch (random.below(input.empty() ? 1 : 8)) {
        case 0:
            input.insert(input.begin() + static_cast<ptrdiff_t>(at),
                         static_cast<uint8_t>(random.next()));
            break;
        case 1:
            input[at] ^= static_cast<uint8_t>(1u << random.below(8));
            break;
        case 2:
            input[at] = static_cast<uint8_t>(random.next());
            break;
        case 3:
            input[at] = kEdges[random.below(kEdges.size())];
            break;
        case 4:
            input[at] = static_cast<uint8_t>(input[at] + random.between(0, 16) - 8);
            break;
        case 5: {
            const size_t count = std::min<size_t>(random.between(1, 8), input.size() - at);
            input.erase(input.begin() + static_cast<ptrdiff_t>(at),
                        input.begin() + static_cast<ptrdiff_t>(at + count));
            break;
        }
        case 6: {  // a piece of another seed
            if (other.empty()) break;
            const size_t from = random.below(other.size());
            const size_t count = std::min<size_t>(random.between(1, 64), other.size() - from);
            const auto begin = other.begin() + static_cast<ptrdiff_t>(from);
            input.insert(input.begin() + static_cast<ptrdiff_t>(at), begin,
                         begin + static_cast<ptrdiff_t>(count));
            break;
        }
        default:
            input.resize(at);
            break;
    }
}

// Inputs 0, 1, ... are the seeds, then come their mutations.
Bytes make_input(const std::vector<Bytes>& seeds, uint64_t number, uint64_t seed) {
    if (number < seeds.size()) return seeds[number];
    antipode::Random random(seed * 0x9e3779b97f4a7c15 + number);
    Bytes input = seeds[random.below(seeds.size())];
    const Bytes& other = seeds[random.below(seeds.size())];
    const uint64_t count = uint64_t{1} << random.below(6);
    for (uint64_t i = 0; i < count; ++i) mutate_once(input, other, random);
    if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
    return input;
}

// A copy of exactly its size on the heap: what is read behind its end is found.
void run(const Bytes& input) {
    const auto copy = std::make_unique<uint8_t[]>(input.size());
    std::copy(input.begin(), input.end(), copy.get());
    (void)LLVMFuzzerTestOneInput(copy.get(), input.size());
}

int run_all(const Options& options, const std::vector<Bytes>& seeds) {
    void* page =
        mmap(nullptr, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    auto* current = static_cast<volatile uint64_t*>(page);
    const uint64_t total = seeds.size() + options.mutations;
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        for (uint64_t number = 0; number < total; ++number) {
            *current = number;
            run(make_input(seeds, number, options.seed));
        }
        std::exit(0);  // so that leaks are looked for
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        std::printf("%zu seeds and %lu mutations\n", seeds.size(), options.mutations);
        return 0;
    }
    std::fprintf(stderr, "input %lu failed: run it alone with --seed %lu --only %lu --save FILE\n",
                 *current, options.seed, *current);
    return 1;
}

std::optional<Options> parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--mutations" && has_value) {
            options.mutations = std::strtoull(argv[++i], nullptr, 10);
        } else if (word == "--seed" && has_value) {
            options.seed = std::strtoull(argv[++i], nullptr, 10);
        } else if (word == "--only" && has_value) {
            options.only = std::strtoull(argv[++i], nullptr, 10);
        } else if (word == "--save" && has_value) {
            options.save = argv[++i];
        } else if (word.rfind("--", 0) != 0 && options.directory.empty()) {
            options.directory = word;
        } else {
            return std::nullopt;
        }
    }
    if (options.directory.empty()) return std::nullopt;
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse(argc, argv);
    if (!options) {
        std::fprintf(stderr, "usage: %s [--mutations N] [--seed S] [--only I] [--save FILE] DIR\n",
                     argv[0]);
        return 2;
    }
    const auto seeds = read_seeds(options->directory);
    if (!options->only) return run_all(*options, seeds);
    const Bytes input = make_input(seeds, *options->only, options->seed);
    if (!options->save.empty()) {
        std::ofstream file(options->save, std::ios::binary);
        file.write(reinterpret_cast<const char*>(input.data()),
                   static_cast<std::streamsize>(input.size()));
    }
    run(input);
    return 0;
}
