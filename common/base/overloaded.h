// Overloaded: one function object of several lambdas, for std::visit.
#pragma once

namespace antipode {

template <typename... Handlers>
struct Overloaded : Handlers... {
    using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace antipode
