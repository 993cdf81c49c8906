// Freer: lets std::unique_ptr hold what a C library made, with the function that ends it:
// std::unique_ptr<BIO, Freer<BIO_free>>. What the function returns is ignored.
#pragma once

namespace antipode {

template <auto kFree>
struct Freer {
    template <typename T>
    void operator()(T* object) const {
        kFree(object);
    }
};

}  // namespace antipode
