// Fixed shares of work on OpenMP threads, and the scratch memory that they work in.
#pragma once
#include <omp.h>

#include <cstddef>

constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }
constexpr long round_to(long a, long b) { return ceil_div(a, b) * b; }

// Hands out pieces of one allocation, each on its own cache lines; without a base it only counts.
struct Arena {
  char* base;
  size_t used = 0;
  template <class T>
  T* take(size_t count) {
    T* piece = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += round_to(count * sizeof(T), 64);
    return piece;
  }
};

// One call of `share(t)` for every share t = 0..threads-1, whatever the size of the team that the runtime grants.
template <class F>
void each_share(int threads, F share) {
  for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads()) share(t);
#pragma omp barrier
}
