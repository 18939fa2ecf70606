// As many multiply-adds as the processor can do: independent sums in registers, nothing read from memory.
#include "tile.h"

namespace {

constexpr int SUMS = 12;

template <class Step>
double run(long n, Step step) {
  Vec sums[SUMS];
  for (int i = 0; i < SUMS; ++i) sums[i] = broadcast(1.f + float(i));
  for (long k = 0; k < n; ++k)
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; ++i) sums[i] = step(sums[i]);
  Vec total{};
  for (int i = 0; i < SUMS; ++i) total += sums[i];
  return sum(total);
}

}  // namespace

// Operations of one of the n rounds; 0 where this build has no such products.
extern "C" long round_operations(int bf16) {
#if !defined(__AVX512BF16__)
  if (bf16) return 0;
#endif
  return long(SUMS) * WIDTH * 2 * (bf16 ? 2 : 1);
}

extern "C" double rounds(int bf16, long n) {
#if defined(__AVX512BF16__)
  if (bf16) {
    const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x3400);
    return run(n, [&](Vec x) { return Vec(_mm512_dpbf16_ps(x, a, b)); });
  }
#endif
  const Vec a = broadcast(0.999f), b = broadcast(0.5f);
  return run(n, [&](Vec x) { return x * a + b; });
}
