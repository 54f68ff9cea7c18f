// Products of f32 activations with int8 weights on a CPU, for XLA.
//
//   y[m, n] = scale[n] * sum_k x[m, k] * w[n, k]
//
// Each row of x is rounded to int8 in blocks of BLOCK numbers, each block with
// its own scale, the largest magnitude of the block / 127; products and their
// sums in a block are exact integers, and blocks are summed in float32. So an
// error is that of rounding x: at most half a step for each number.
//
// With AVX-512 VNNI one instruction multiplies 64 pairs of u8 and s8. Weights
// are the unsigned operand, w + 128 (their top bit flipped); 128 times the
// block's sum of x is subtracted first. Few rows are dot products that read
// weights as they lie; for more, a panel of weights is packed once and all rows
// pass over it. With AVX2 all are dot products, of numbers widened to 16 bits.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include <immintrin.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define VNNI 1
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

constexpr int64_t BLOCK = 128;   // numbers of x with one scale

// Runs f(i) for all i < total on the pool and on this thread. Who calls takes
// part, and waits only for what has begun: a busy pool can't block it.
template <class F>
static void parallel(ffi::ThreadPool& pool, int64_t total, F f) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, total, &f] {
    for (int64_t i; (i = state->next.fetch_add(1)) < total;) {
      f(i);  // alive: who called returns only after the last is done
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  int64_t helpers = std::min<int64_t>(pool.num_threads(), total) - 1;
  for (int64_t i = 0; i < helpers; i++) pool.Schedule(decltype(work)(work));
  work();
  while (state->done.load(std::memory_order_acquire) < total) _mm_pause();
}

// Activations as int8 [M, blocks * BLOCK], padded with zeros.
struct Rows {
  int64_t m, k, blocks;
  std::vector<int8_t> q;
  std::vector<float> scale;   // [M, blocks]
  std::vector<int32_t> sums;  // [M, blocks], 128 times each block's sum

  Rows(ffi::ThreadPool& pool, const float* x, int64_t m, int64_t k)
      : m(m), k(k), blocks((k + BLOCK - 1) / BLOCK) {
    q.resize(m * stride());
    scale.resize(m * blocks);
    sums.resize(m * blocks);
    parallel(pool, (m + 15) / 16, [&](int64_t part) {
      for (int64_t r = part * 16; r < std::min(m, part * 16 + 16); r++)
        for (int64_t b = 0; b < blocks; b++) round(x + r * k, r, b);
    });
  }
  int64_t stride() const { return blocks * BLOCK; }
  const int8_t* at(int64_t row, int64_t block) const {
    return q.data() + row * stride() + block * BLOCK;
  }

 private:
  void round(const float* x, int64_t row, int64_t b) {
    int64_t size = std::min(BLOCK, k - b * BLOCK);
    float values[BLOCK] = {}, most = 0, odd = 0;
    std::memcpy(values, x + b * BLOCK, size * sizeof(float));
    for (float v : values) {
      most = std::max(most, std::fabs(v));
      odd += v * 0;  // not a number if v is none, or infinite
    }
    float step = most / 127, inverse = most > 0 ? 127 / most : 0;
    if (odd != 0) {
      std::fill_n(values, BLOCK, 0.f);
      step = odd;
    }
    int8_t* out = q.data() + row * stride() + b * BLOCK;
    int32_t sum = 0;
    for (int64_t i = 0; i < BLOCK; i++) {
      int32_t v = static_cast<int32_t>(std::nearbyint(values[i] * inverse));
      out[i] = static_cast<int8_t>(v);
      sum += v;
    }
    scale[row * blocks + b] = step;
    sums[row * blocks + b] = 128 * sum;
  }
};

// Calls f(0), ..., f(N - 1), written out by the front end: that lets compilers
// keep arrays that f indexes in registers.
template <int N, class F>
__attribute__((always_inline)) static inline void each(F f) {
  if constexpr (N > 1) each<N - 1>(f);
  f(std::integral_constant<int, N - 1>());
}
#define DO(i) [&](auto i) __attribute__((always_inline))

#ifdef VNNI

constexpr int LANES = 64;  // pairs multiplied at a time
constexpr int FEW = 4;     // rows of x that are dot products
using Ints = __m512i;
using Floats = __m512;
static inline Ints start(int32_t sum) {
  return _mm512_zextsi128_si512(_mm_cvtsi32_si128(-sum));
}
static inline Ints activations(const int8_t* x) { return _mm512_loadu_si512(x); }
static inline Ints weights(const int8_t* w) {
  return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8(-128));
}
static inline Ints dot(Ints sum, Ints w, Ints x) {
  return _mm512_dpbusd_epi32(sum, w, x);
}
static inline Floats zeros() { return _mm512_setzero_ps(); }
static inline Floats scaled(Ints sum, float step, Floats total) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(step), total);
}
static inline float add_up(Floats total) { return _mm512_reduce_add_ps(total); }

#else

constexpr int LANES = 16, FEW = 2;
using Ints = __m256i;
using Floats = __m256;
static inline Ints start(int32_t) { return _mm256_setzero_si256(); }
static inline Ints activations(const int8_t* x) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
static inline Ints weights(const int8_t* w) { return activations(w); }
static inline Ints dot(Ints sum, Ints w, Ints x) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
}
static inline Floats zeros() { return _mm256_setzero_ps(); }
static inline Floats scaled(Ints sum, float step, Floats total) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(step), total);
}
static inline float add_up(Floats total) {
  float parts[8], sum = 0;
  _mm256_storeu_ps(parts, total);
  for (float part : parts) sum += part;
  return sum;
}

#endif

// y[row + m, j] of M rows of x and 4 rows [K] of weights, of which `num` count.
template <int M>
static void dots(const Rows& x, int64_t row, const int8_t* w, int64_t num,
                 const float* scale, float* y, int64_t N) {
  const int8_t* rows[4];
  for (int j = 0; j < 4; j++) rows[j] = w + std::min<int64_t>(j, num - 1) * x.k;
  Floats total[4][M];
  each<4>(DO(j) { each<M>(DO(m) { total[j][m] = zeros(); }); });
  for (int64_t b = 0; b < x.blocks; b++) {
    int8_t rest[4][BLOCK] = {};
    if (b * BLOCK + BLOCK > x.k)
      for (int j = 0; j < 4; j++) {
        std::memcpy(rest[j], rows[j] + b * BLOCK, x.k - b * BLOCK);
        rows[j] = rest[j] - b * BLOCK;
      }
    Ints sum[4][M];
    each<M>(DO(m) {
      each<4>(DO(j) { sum[j][m] = start(x.sums[(row + m) * x.blocks + b]); });
    });
    for (int i = 0; i < BLOCK; i += LANES)
      each<4>(DO(j) {
        const Ints v = weights(rows[j] + b * BLOCK + i);
        each<M>(DO(m) {
          sum[j][m] = dot(sum[j][m], v, activations(x.at(row + m, b) + i));
        });
      });
    each<M>(DO(m) {
      const float step = x.scale[(row + m) * x.blocks + b];
      each<4>(DO(j) { total[j][m] = scaled(sum[j][m], step, total[j][m]); });
    });
  }
  for (int j = 0; j < num; j++)
    for (int m = 0; m < M; m++) y[(row + m) * N + j] = scale[j] * add_up(total[j][m]);
}

// Dot products with weights [N, K] or, `in_first`, [K, N].
static void products(ffi::ThreadPool& pool, const Rows& x, const int8_t* w,
                     int64_t N, bool in_first, const float* scale, float* y) {
  constexpr int64_t PART = 64;
  static const decltype(&dots<1>) few[] = {dots<1>, dots<2>, dots<FEW - 1>, dots<FEW>};
  parallel(pool, (N + PART - 1) / PART, [&](int64_t part) {
    const int64_t begin = part * PART, end = std::min(N, begin + PART);
    const int8_t* own = w + begin * x.k;
    std::vector<int8_t> turned(in_first ? (end - begin) * x.k : 0);
    if (in_first) {
      for (int64_t k = 0; k < x.k; k++)
        for (int64_t n = begin; n < end; n++)
          turned[(n - begin) * x.k + k] = w[k * N + n];
      own = turned.data();
    }
    for (int64_t n = begin; n < end; n += 4)
      for (int64_t row = 0; row < x.m; row += FEW)
        few[std::min<int64_t>(FEW, x.m - row) - 1](
            x, row, own + (n - begin) * x.k, std::min<int64_t>(4, end - n),
            scale + n, y + n, N);
  });
}

#ifdef VNNI

constexpr int64_t CHUNK = 2048;  // inputs that a panel has at a time
constexpr int64_t WIDE = 48;  // outputs of a panel, three registers
constexpr int TALL = 5;       // rows that a tile has

// Swaps rows and columns of 16 x 16 numbers of 32 bits.
static inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  each<8>(DO(i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  });
  // Of r[4 * i + j] lane l is then column 4 * l + j of rows 4 * i to 4 * i + 3.
  each<4>(DO(i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  });
  each<4>(DO(j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);  // lanes 0 and 2
    t[4 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);  // 1 and 3
    t[8 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
  });
  each<4>(DO(j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
    r[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
    r[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);
  });
}

// A panel [CHUNK / 4][WIDE][4] of w + 128, of outputs from n and inputs from k.
// Weights are [N, K] or, `in_first`, [K, N]. Where they end, anything may be in
// the panel: x is zero there, or the outputs are not stored.
static void pack(const int8_t* w, int64_t N, int64_t K, bool in_first,
                 int64_t n, int64_t k, int64_t size, uint8_t* panel) {
  int64_t wide = std::min(WIDE, N - n), deep = std::min(size, K - k);
  if (in_first) {
    const __mmask64 mask = (1ull << wide) - 1;
    for (int64_t i = 0; i + 4 <= deep; i += 4) {
      const int8_t* from = w + (k + i) * N + n;
      const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
      __m512i r[4];
      for (int j = 0; j < 4; j++)
        r[j] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, from + j * N), flip);
      for (int part = 0; part < 3; part++) {
        __m128i a[4];
        for (int j = 0; j < 4; j++)
          a[j] = part == 0   ? _mm512_castsi512_si128(r[j])
                 : part == 1 ? _mm512_extracti32x4_epi32(r[j], 1)
                             : _mm512_extracti32x4_epi32(r[j], 2);
        __m128i ab = _mm_unpacklo_epi8(a[0], a[1]), cd = _mm_unpacklo_epi8(a[2], a[3]);
        __m128i AB = _mm_unpackhi_epi8(a[0], a[1]), CD = _mm_unpackhi_epi8(a[2], a[3]);
        __m128i* to = reinterpret_cast<__m128i*>(panel + i * WIDE + part * 64);
        _mm_storeu_si128(to, _mm_unpacklo_epi16(ab, cd));
        _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(ab, cd));
        _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(AB, CD));
        _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(AB, CD));
      }
    }
    for (int64_t i = deep / 4 * 4; i < deep; i++)
      for (int64_t j = 0; j < wide; j++)
        panel[i / 4 * 4 * WIDE + j * 4 + i % 4] = w[(k + i) * N + n + j] ^ 0x80;
    return;
  }
  const __m512i flip = _mm512_set1_epi8(-128);
  for (int64_t part = 0; part < WIDE / 16; part++)
    for (int64_t i = 0; i < deep; i += 64) {
      const __mmask64 mask = deep - i >= 64 ? ~0ull : (1ull << (deep - i)) - 1;
      __m512i rows[16];
      each<16>(DO(j) {
        const int64_t row = n + std::min<int64_t>(part * 16 + j, wide - 1);
        const __m512i v = _mm512_maskz_loadu_epi8(mask, w + row * K + k + i);
        rows[j] = _mm512_xor_si512(v, flip);
      });
      transpose(rows);
      uint8_t* to = panel + i * WIDE + part * 64;
      each<16>(DO(j) { _mm512_storeu_si512(to + j * 4 * WIDE, rows[j]); });
    }
}

// Adds a chunk's products of M rows to y, whose outputs from n are the panel's.
template <int M>
static void tile(const Rows& x, int64_t row, int64_t block, int64_t blocks,
                 const uint8_t* panel, float* y, int64_t N, const __mmask16* mask) {
  for (int64_t b = block; b < block + blocks; b++) {
    __m512i sum[M][3];
    each<M>(DO(m) {
      sum[m][0] = sum[m][1] = sum[m][2] =
          _mm512_set1_epi32(-x.sums[(row + m) * x.blocks + b]);
    });
    const int8_t* q = x.at(row, b);
    for (int64_t i = 0; i < BLOCK; i += 4, panel += 4 * WIDE) {
      const __m512i w[3] = {_mm512_loadu_si512(panel), _mm512_loadu_si512(panel + 64),
                            _mm512_loadu_si512(panel + 128)};
      each<M>(DO(m) {
        int32_t four;
        std::memcpy(&four, q + m * x.stride() + i, 4);
        const __m512i v = _mm512_set1_epi32(four);
        each<3>(DO(j) { sum[m][j] = _mm512_dpbusd_epi32(sum[m][j], w[j], v); });
      });
    }
    each<M>(DO(m) {
      const __m512 step = _mm512_set1_ps(x.scale[(row + m) * x.blocks + b]);
      each<3>(DO(j) {
        float* to = y + (row + m) * N + 16 * j;
        __m512 total = b ? _mm512_maskz_loadu_ps(mask[j], to) : _mm512_setzero_ps();
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[m][j]), step, total);
        _mm512_mask_storeu_ps(to, mask[j], total);
      });
    });
  }
}

using Tile = decltype(&tile<1>);
static const Tile TILES[] = {nullptr, tile<1>, tile<2>, tile<3>, tile<4>,
                             tile<5>};

static void panels(ffi::ThreadPool& pool, const Rows& x, const int8_t* w,
                   int64_t N, bool in_first, const float* scale, float* y) {
  parallel(pool, (N + WIDE - 1) / WIDE, [&](int64_t p) {
    static thread_local std::vector<uint8_t> panel(CHUNK * WIDE);
    int64_t n = p * WIDE, wide = std::min(WIDE, N - n);
    __mmask16 mask[3];
    for (int j = 0; j < 3; j++) {
      int64_t left = std::clamp<int64_t>(wide - 16 * j, 0, 16);
      mask[j] = static_cast<__mmask16>((1u << left) - 1);
    }
    for (int64_t k = 0; k < x.stride(); k += CHUNK) {
      int64_t size = std::min(CHUNK, x.stride() - k);
      pack(w, N, x.k, in_first, n, k, size, panel.data());
      for (int64_t row = 0; row < x.m; row += TALL)
        TILES[std::min<int64_t>(TALL, x.m - row)](
            x, row, k / BLOCK, size / BLOCK, panel.data(), y + n, N, mask);
    }
    for (int64_t row = 0; row < x.m; row++)
      for (int64_t j = n; j < n + wide; j++) y[row * N + j] *= scale[j];
  });
}

#endif

// x f32[M, K], w s8[N, K] or, `in_first`, [K, N], scale f32[N] -> f32[M, N].
static ffi::Error Product(ffi::ThreadPool pool, ffi::BufferR2<ffi::F32> x,
                          ffi::BufferR2<ffi::S8> w, ffi::BufferR1<ffi::F32> scale,
                          ffi::ResultBufferR2<ffi::F32> y, bool in_first) {
  int64_t m = x.dimensions()[0], k = x.dimensions()[1], n = scale.dimensions()[0];
  if (w.dimensions()[in_first] != n || w.dimensions()[!in_first] != k ||
      y->dimensions()[0] != m || y->dimensions()[1] != n)
    return ffi::Error::InvalidArgument("shapes of x, w, scale and y don't agree");
  Rows rows(pool, x.typed_data(), m, k);
  auto run = products;
#ifdef VNNI
  if (in_first || m > FEW) run = panels;
#endif
  run(pool, rows, w.typed_data(), n, in_first, scale.typed_data(), y->typed_data());
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(pg_int8_product, Product,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Arg<ffi::BufferR2<ffi::S8>>()
                                  .Arg<ffi::BufferR1<ffi::F32>>()
                                  .Ret<ffi::BufferR2<ffi::F32>>()
                                  .Attr<bool>("in_first"));
