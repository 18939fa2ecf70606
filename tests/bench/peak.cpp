// As many multiply-adds as the processor can do: independent sums in registers, nothing read from memory. AMX needs
// `ready` of the kernels first.
#include "amx.h"

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
#if defined(__AMX_BF16__)
  if (bf16) return 6l * 16 * 16 * 32 * 2;
#elif !defined(__AVX512BF16__)
  if (bf16) return 0;
#endif
  return long(SUMS) * WIDTH * 2 * (bf16 ? 2 : 1);
}

extern "C" double rounds(int bf16, long n) {
#if defined(__AMX_BF16__)
  if (bf16) {
    const Amx::Session session;
    alignas(64) float sums[256];
    for (long k = 0; k < n; ++k) {
      _tile_dpbf16ps(0, 6, 7);
      _tile_dpbf16ps(1, 6, 7);
      _tile_dpbf16ps(2, 6, 7);
      _tile_dpbf16ps(3, 6, 7);
      _tile_dpbf16ps(4, 6, 7);
      _tile_dpbf16ps(5, 6, 7);
    }
    _tile_stored(0, sums, 64);
    return sums[0];
  }
#elif defined(__AVX512BF16__)
  if (bf16) {
    const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x3400);
    return run(n, [&](Vec x) { return Vec(_mm512_dpbf16_ps(x, a, b)); });
  }
#endif
  const Vec a = broadcast(0.999f), b = broadcast(0.5f);
  return run(n, [&](Vec x) { return x * a + b; });
}
