// Vectors of the widest kind the build targets, and the two transcendental functions the kernels need.
//
// GCC and Clang write them as `vector_size` types with ordinary operators; any other compiler gets vectors of one lane.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace emkit {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

// Small arrays of vectors stay in registers only if everything around them is inlined and unrolled early.
#if defined(__GNUC__) || defined(__clang__)
#define EMKIT_INLINE __attribute__((always_inline))
#define EMKIT_KEEP __attribute__((noinline))
#else
#define EMKIT_INLINE
#define EMKIT_KEEP
#endif
#if defined(__clang__)
#define EMKIT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define EMKIT_UNROLL _Pragma("GCC unroll 16")
#else
#define EMKIT_UNROLL
#endif

// While this lives, results too small for a normal number are 0 in its thread, where a processor would take a hundred
// times as long for them.
class SubnormalsAreZero {
  public:
#if defined(__SSE2__)
    SubnormalsAreZero() : before(_mm_getcsr()) { _mm_setcsr(before | _MM_FLUSH_ZERO_ON); }
    ~SubnormalsAreZero() { _mm_setcsr(before); }

  private:
    const unsigned before;
#else
    SubnormalsAreZero() {}
#endif
};

// How a float type is laid out, and the limits within which the kernels keep its values.
template <class T> struct Format;

template <> struct Format<double> {
    using Word = std::uint64_t;
    static constexpr int mantissa_bits = 52, bias = 1023;
    static constexpr Word sqrt_half = 0x3FE6A09E667F3BCD;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double least_exponent = -708.0;  // exp() is a normal number above this
    static constexpr int exp_terms = 13, log_terms = 10;
    static constexpr double farthest = 1e140;         // its square, summed over any data, is finite
    static constexpr double least_log_prob = -1e300;  // as improbable as a row can be
};

template <> struct Format<float> {
    using Word = std::uint32_t;
    static constexpr int mantissa_bits = 23, bias = 127;
    static constexpr Word sqrt_half = 0x3F3504F3;
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float least_exponent = -87.0f;
    static constexpr int exp_terms = 7, log_terms = 4;
    static constexpr float farthest = 1e15f;
    static constexpr float least_log_prob = -1e30f;
};

#if defined(__GNUC__) || defined(__clang__)

template <class T> struct Lanes {
    static constexpr int count = VECTOR_BYTES / sizeof(T);
    typedef T Vec __attribute__((vector_size(VECTOR_BYTES)));
    typedef typename Format<T>::Word Bits __attribute__((vector_size(VECTOR_BYTES)));
};

#else

template <class T> struct Lanes {
    static constexpr int count = 1;
    using Vec = T;
    using Bits = typename Format<T>::Word;
};

#endif

template <class T> using Vec = typename Lanes<T>::Vec;
template <class T> constexpr int LANES = Lanes<T>::count;

template <class T> inline Vec<T> load(const T* from) {
    Vec<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class T> inline void store(T* to, Vec<T> v) { std::memcpy(to, &v, sizeof v); }

template <class T> inline Vec<T> fill(T x) { return x - Vec<T>{}; }

template <class T, int P> EMKIT_INLINE inline void clear(Vec<T> (&accumulators)[P]) {
    EMKIT_UNROLL for (int p = 0; p < P; ++p) accumulators[p] = Vec<T>{};
}

template <class T, int P, int Q> EMKIT_INLINE inline void clear(Vec<T> (&accumulators)[P][Q]) {
    EMKIT_UNROLL for (int p = 0; p < P; ++p) clear<T>(accumulators[p]);
}

// The second operand where either is NaN; compilers make two instructions of `a > b ? a : b`, and GCC warns of
// intrinsics without a mask.
#if defined(__AVX512F__)
template <class T> inline Vec<T> larger(Vec<T> a, Vec<T> b) {
    if constexpr (sizeof(T) == 8) return (Vec<T>)_mm512_maskz_max_pd(0xFF, (__m512d)a, (__m512d)b);
    else return (Vec<T>)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)b);
}
template <class T> inline Vec<T> smaller(Vec<T> a, Vec<T> b) {
    if constexpr (sizeof(T) == 8) return (Vec<T>)_mm512_maskz_min_pd(0xFF, (__m512d)a, (__m512d)b);
    else return (Vec<T>)_mm512_maskz_min_ps(0xFFFF, (__m512)a, (__m512)b);
}
#elif defined(__AVX2__)
template <class T> inline Vec<T> larger(Vec<T> a, Vec<T> b) {
    if constexpr (sizeof(T) == 8) return (Vec<T>)_mm256_max_pd((__m256d)a, (__m256d)b);
    else return (Vec<T>)_mm256_max_ps((__m256)a, (__m256)b);
}
template <class T> inline Vec<T> smaller(Vec<T> a, Vec<T> b) {
    if constexpr (sizeof(T) == 8) return (Vec<T>)_mm256_min_pd((__m256d)a, (__m256d)b);
    else return (Vec<T>)_mm256_min_ps((__m256)a, (__m256)b);
}
#else
template <class T> inline Vec<T> larger(Vec<T> a, Vec<T> b) { return a > b ? a : b; }
template <class T> inline Vec<T> smaller(Vec<T> a, Vec<T> b) { return a < b ? a : b; }
#endif

// Which lanes are below those of a bound, a bit for each.
inline unsigned below(Vec<double> v, Vec<double> bound) {
#if defined(__AVX512F__)
    return _mm512_cmp_pd_mask((__m512d)v, (__m512d)bound, _CMP_LT_OQ);
#elif defined(__AVX2__)
    return unsigned(_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, (__m256d)bound, _CMP_LT_OQ)));
#else
    double lane[LANES<double>], limit[LANES<double>];
    store<double>(lane, v);
    store<double>(limit, bound);
    unsigned bits = 0;
    for (int n = 0; n < LANES<double>; ++n) bits |= unsigned(lane[n] < limit[n]) << n;
    return bits;
#endif
}
inline unsigned below(Vec<double> v, double bound) { return below(v, fill<double>(bound)); }

inline bool all_below(Vec<double> v, double bound) { return below(v, bound) == (1u << LANES<double>) - 1; }

inline double largest(Vec<double> v) {
    double lane[LANES<double>];
    store<double>(lane, v);
    return *std::max_element(lane, lane + LANES<double>);
}

// One lane in all of them.
template <int I> inline Vec<double> spread(Vec<double> v) {
#if defined(__clang__)
    return v[I] - Vec<double>{};
#elif defined(__GNUC__)
    return __builtin_shuffle(v, Lanes<double>::Bits{} + std::uint64_t(I));
#else
    return v;
#endif
}

// Numbers in fewer bits.
template <class Numbers, class Number> inline void narrow(Numbers v, Number* to) {
#if defined(__GNUC__) || defined(__clang__)
    typedef Number Small __attribute__((vector_size(sizeof(Number) * LANES<double>)));
    const Small small = __builtin_convertvector(v, Small);
    std::memcpy(to, &small, sizeof small);
#else
    *to = Number(v);
#endif
}

// get(n) in lane n.
template <class Get, std::size_t... I> EMKIT_INLINE inline Vec<double> lanes_of(Get get, std::index_sequence<I...>) {
    return Vec<double>{get(I)...};
}
template <class Get> EMKIT_INLINE inline Vec<double> lanes_of(Get get) {
    return lanes_of(get, std::make_index_sequence<LANES<double>>{});
}

#if defined(__GNUC__) || defined(__clang__)

// Coefficients of the two series: 1 / i! and 1 / (2i + 1).
template <class T> struct Series {
    T exp[Format<T>::exp_terms + 1] = {T(1)};
    T artanh[Format<T>::log_terms + 1] = {T(1)};
    constexpr Series() {
        for (int i = 1; i <= Format<T>::exp_terms; ++i) exp[i] = exp[i - 1] / i;
        for (int i = 1; i <= Format<T>::log_terms; ++i) artanh[i] = T(1) / (2 * i + 1);
    }
};
template <class T> constexpr Series<T> SERIES{};

// Adds to every lane the one DISTANCE lanes away, then the one half as far, down to its neighbour.
template <class T, std::size_t DISTANCE, std::size_t... I> inline T sum_lanes(Vec<T> v, std::index_sequence<I...> lanes) {
#if defined(__clang__)
    v += __builtin_shufflevector(v, v, (I ^ DISTANCE)...);
#else
    v += __builtin_shuffle(v, typename Lanes<T>::Bits{(I ^ DISTANCE)...});
#endif
    if constexpr (DISTANCE > 1) return sum_lanes<T, DISTANCE / 2>(v, lanes);
    else return v[0];
}
template <class T> inline T sum(Vec<T> v) { return sum_lanes<T, LANES<T> / 2>(v, std::make_index_sequence<LANES<T>>{}); }

// The halves of two rows of a square that trade places when the bit DISTANCE of row and column do.
template <class T, std::size_t DISTANCE, std::size_t... I> inline void trade(Vec<T>& upper, Vec<T>& lower, std::index_sequence<I...>) {
    constexpr std::size_t N = sizeof...(I);
    const Vec<T> a = upper, b = lower;
#if defined(__clang__)
    upper = __builtin_shufflevector(a, b, (I & DISTANCE ? N + (I ^ DISTANCE) : I)...);
    lower = __builtin_shufflevector(a, b, (I & DISTANCE ? N + I : I ^ DISTANCE)...);
#else
    upper = __builtin_shuffle(a, b, typename Lanes<T>::Bits{(I & DISTANCE ? N + (I ^ DISTANCE) : I)...});
    lower = __builtin_shuffle(a, b, typename Lanes<T>::Bits{(I & DISTANCE ? N + I : I ^ DISTANCE)...});
#endif
}

// The lanes from FIRST on of two vectors in a row.
template <std::size_t FIRST, std::size_t... I>
inline Vec<double> across_lanes(Vec<double> left, Vec<double> right, std::index_sequence<I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(left, right, (FIRST + I)...);
#else
    return __builtin_shuffle(left, right, Lanes<double>::Bits{(FIRST + I)...});
#endif
}
template <std::size_t FIRST> inline Vec<double> across(Vec<double> left, Vec<double> right) {
    return across_lanes<FIRST>(left, right, std::make_index_sequence<LANES<double>>{});
}

// Rows become columns: a square of vectors, bit by bit of the indices.
template <class T, std::size_t DISTANCE = 1> EMKIT_INLINE inline void transpose_square(Vec<T> (&square)[LANES<T>]) {
    if constexpr (DISTANCE < std::size_t(LANES<T>)) {
        EMKIT_UNROLL for (std::size_t i = 0; i < std::size_t(LANES<T>); ++i)
            if (!(i & DISTANCE)) trade<T, DISTANCE>(square[i], square[i | DISTANCE], std::make_index_sequence<LANES<T>>{});
        transpose_square<T, 2 * DISTANCE>(square);
    }
}

// sum_i coefficient[i] x^i by pairs, then pairs of pairs (Estrin): a third of the latency of Horner's rule.
template <class T, int N> EMKIT_INLINE inline Vec<T> polynomial(const T (&coefficient)[N], Vec<T> x) {
    Vec<T> term[(N + 1) / 2];
    EMKIT_UNROLL for (int i = 0; i < N / 2; ++i) term[i] = coefficient[2 * i] + coefficient[2 * i + 1] * x;
    if (N % 2 == 1) term[N / 2] = fill<T>(coefficient[N - 1]);
    EMKIT_UNROLL for (int count = (N + 1) / 2; count > 1; count = (count + 1) / 2) {
        x *= x;
        EMKIT_UNROLL for (int i = 0; i < count / 2; ++i) term[i] = term[2 * i] + term[2 * i + 1] * x;
        if (count % 2 == 1) term[count / 2] = term[count - 1];
    }
    return term[0];
}

// exp(x) for x <= 0, within 2 ulp; exactly 0 where the result would not be a normal number, and for -inf.
template <class T> EMKIT_INLINE inline Vec<T> exp(Vec<T> x) {
    using F = Format<T>;
    using Bits = typename Lanes<T>::Bits;
    // x = n log 2 + r. Adding 1.5 * 2^mantissa_bits rounds to an integer and leaves n in the lowest bits.
    constexpr T shift = T(1.5) * T(typename F::Word(1) << F::mantissa_bits);
    const Vec<T> shifted = x * T(1.4426950408889634) + shift;
    const Vec<T> n = shifted - shift;
    const Vec<T> r = (x - n * F::ln2_high) - n * F::ln2_low;
    const Vec<T> p = polynomial<T>(SERIES<T>.exp, r);
    const Vec<T> scaled = (Vec<T>)((Bits)p + ((Bits)shifted << F::mantissa_bits));
    return x > F::least_exponent ? scaled : Vec<T>{};
}

// log(x) for x >= 1, within 2 ulp.
template <class T> inline Vec<T> log(Vec<T> x) {
    using F = Format<T>;
    using Bits = typename Lanes<T>::Bits;
    // x = 2^n m with m in [sqrt(1/2), sqrt(2))
    const Bits n = ((Bits)x - F::sqrt_half) >> F::mantissa_bits;
    const Vec<T> m = (Vec<T>)((Bits)x - (n << F::mantissa_bits));
    // n as a float: written into the mantissa of 2^mantissa_bits
    constexpr T base = T(typename F::Word(1) << F::mantissa_bits);
    const Vec<T> exponent = (Vec<T>)(n | (Bits)fill<T>(base)) - base;
    // log m = 2 artanh((m - 1) / (m + 1))
    const Vec<T> s = (m - T(1)) / (m + T(1)), square = s * s;
    return exponent * F::ln2_high + (exponent * F::ln2_low + T(2) * s * polynomial<T>(SERIES<T>.artanh, square));
}

// 2^-e for the exponents e of positive numbers, which are added to `exponents`; of 0 as if it were the smallest.
template <class T> inline Vec<T> inverse_power(Vec<T> x, Vec<T>& exponents) {
    using Bits = typename Lanes<T>::Bits;
    constexpr int digits = Format<T>::mantissa_bits;
    constexpr T base = T(typename Format<T>::Word(1) << digits);
    const Bits field = (Bits)x >> digits;
    exponents += (Vec<T>)(field | (Bits)fill<T>(base)) - (base + Format<T>::bias);
    return (Vec<T>)((2 * Format<T>::bias - field) << digits);
}

#else

template <class T> inline T sum(T x) { return x; }
template <std::size_t FIRST> inline double across(double left, double right) { return FIRST == 0 ? left : right; }
template <class T> inline void transpose_square(T (&)[1]) {}
template <class T> inline T inverse_power(T x, T& exponents) {
    const int exponent = x > T(0) ? std::max(std::ilogb(x), -int(Format<T>::bias)) : -int(Format<T>::bias);
    exponents += T(exponent);
    return std::ldexp(T(1), -exponent);
}
template <class T> inline T exp(T x) { return x > Format<T>::least_exponent ? std::exp(x) : T(0); }
template <class T> inline T log(T x) { return std::log(x); }

#endif

}  // namespace emkit
