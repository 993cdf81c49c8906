// Text without a C library: building lines, reading the kernel command line, parsing addresses.
//
// Used by the Linux guest's init and by the bare-metal guests; freestanding, no allocation, no
// locale. INVARIANTS: a Line never overflows, it stops taking text at its capacity; parsers accept
// nothing but the whole of what they were given.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if __STDC_HOSTED__
#include <string.h>
#else
extern "C" {
void* memcpy(void* to, const void* from, size_t bytes);
void* memmove(void* to, const void* from, size_t bytes);
void* memset(void* to, int value, size_t bytes);
int memcmp(const void* left, const void* right, size_t bytes);
}
#endif

namespace antipode::guest {

// Bytes that belong to someone else.
struct Text {
    const char* data = nullptr;
    size_t bytes = 0;

    bool is(const char* word) const;
    bool empty() const { return bytes == 0; }
};

inline size_t length_of(const char* text) {
    size_t bytes = 0;
    while (text[bytes] != '\0') {
        ++bytes;
    }
    return bytes;
}

inline Text text_of(const char* text) {
    return {text, length_of(text)};
}

inline bool Text::is(const char* word) const {
    return length_of(word) == bytes && memcmp(word, data, bytes) == 0;
}

// One line of output under construction.
template <size_t kBytes>
class Line {
  public:
    Line& text(const char* what) { return raw(what, length_of(what)); }
    Line& raw(const void* data, size_t bytes) {
        const auto* from = static_cast<const char*>(data);
        for (size_t i = 0; i < bytes && bytes_ < kBytes; ++i) {
            data_[bytes_++] = from[i];
        }
        return *this;
    }
    Line& number(uint64_t value) {
        char digits[20];
        size_t count = 0;
        do {
            digits[count++] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);
        while (count != 0) {
            raw(&digits[--count], 1);
        }
        return *this;
    }
    Line& hex(uint64_t value) {
        text("0x");
        int shift = 60;
        while (shift > 0 && (value >> shift) == 0) {
            shift -= 4;
        }
        for (; shift >= 0; shift -= 4) {
            raw(&"0123456789abcdef"[(value >> shift) & 15], 1);
        }
        return *this;
    }
    // a.b.c.d of an address in host order.
    Line& address(uint32_t ip) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            number((ip >> shift) & 255);
            if (shift != 0) {
                text(".");
            }
        }
        return *this;
    }
    void clear() { bytes_ = 0; }
    const char* data() const { return data_; }
    size_t bytes() const { return bytes_; }

  private:
    char data_[kBytes];
    size_t bytes_ = 0;
};

// Reads a decimal or 0x number at the front of `text` and moves past it; false if there is none.
inline bool take_number(Text& text, uint64_t& value) {
    size_t i = 0;
    value = 0;
    if (text.bytes > 2 && text.data[0] == '0' && text.data[1] == 'x') {
        for (i = 2; i < text.bytes; ++i) {
            const char c = text.data[i];
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                     : -1;
            if (digit < 0) {
                break;
            }
            value = value * 16 + static_cast<uint64_t>(digit);
        }
        if (i == 2) {
            return false;
        }
    } else {
        for (; i < text.bytes && text.data[i] >= '0' && text.data[i] <= '9'; ++i) {
            value = value * 10 + static_cast<uint64_t>(text.data[i] - '0');
        }
        if (i == 0) {
            return false;
        }
    }
    text.data += i;
    text.bytes -= i;
    return true;
}

inline bool take_char(Text& text, char c) {
    if (text.bytes == 0 || text.data[0] != c) {
        return false;
    }
    ++text.data;
    --text.bytes;
    return true;
}

// a.b.c.d, in host order, and moves past it.
inline bool take_address(Text& text, uint32_t& ip) {
    ip = 0;
    for (int i = 0; i < 4; ++i) {
        uint64_t part = 0;
        if ((i != 0 && !take_char(text, '.')) || !take_number(text, part) || part > 255) {
            return false;
        }
        ip = ip << 8 | static_cast<uint32_t>(part);
    }
    return true;
}

// The words of a command line, one after the other.
class Words {
  public:
    explicit Words(Text line) : line_(line) {}
    bool next(Text& word) {
        while (line_.bytes != 0 && is_space(line_.data[0])) {
            ++line_.data;
            --line_.bytes;
        }
        if (line_.bytes == 0) {
            return false;
        }
        word = {line_.data, 0};
        while (line_.bytes != 0 && !is_space(line_.data[0])) {
            ++line_.data;
            --line_.bytes;
            ++word.bytes;
        }
        return true;
    }

  private:
    static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t'; }
    Text line_;
};

// The value of the last `name=value` on the command line; false if there is none.
inline bool option(Text line, const char* name, Text& value) {
    Words words(line);
    Text word;
    bool found = false;
    const size_t bytes = length_of(name);
    while (words.next(word)) {
        if (word.bytes > bytes && memcmp(word.data, name, bytes) == 0 && word.data[bytes] == '=') {
            value = {word.data + bytes + 1, word.bytes - bytes - 1};
            found = true;
        }
    }
    return found;
}

inline uint64_t option_number(Text line, const char* name, uint64_t otherwise) {
    Text value;
    uint64_t number = 0;
    if (!option(line, name, value) || !take_number(value, number) || !value.empty()) {
        return otherwise;
    }
    return number;
}

}  // namespace antipode::guest
