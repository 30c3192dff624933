// The layers' arithmetic on a GPU, apart from the products: compiled by NVRTC when it is first needed.
//
// Images lie channels last, as on the CPU. Every kernel takes its arguments as 64-bit words, the first of which is the number
// of threads it is for, and no thread waits for another: the same text compiled for the CPU is held against the CPU's own
// kernels by the tests (emulated.rs). Sums are taken in fixed parts, so that the same numbers come out every time.

typedef unsigned long long Word;
// Indices: a GPU divides numbers of 32 bits several times as fast.
typedef unsigned int Size;
struct Words {
    Word w[12];
};

// The upper half of a float.
struct bf16 {
    unsigned short bits;
};

__device__ float number(Word bits) {
    union {
        unsigned int bits;
        float value;
    } u;
    u.bits = (unsigned int)bits;
    return u.value;
}

__device__ float get(const float *x, Size i) { return x[i]; }
__device__ float get(const bf16 *x, Size i) { return number((Word)x[i].bits << 16); }

__device__ void put(float *x, Size i, float value) { x[i] = value; }
__device__ void put(bf16 *x, Size i, float value) {
    union {
        float value;
        unsigned int bits;
    } u;
    u.value = value;
    // To the nearest, of two equally near to the even one.
    x[i].bits = (unsigned short)((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16);
}

// Numbers that are read and written at a time: one, or 16 bytes of them.
template <typename T, int N> struct alignas(N * sizeof(T)) Pack {
    T v[N];
};
// Two in a word, so that the compiler reads words.
template <> struct alignas(16) Pack<bf16, 8> {
    unsigned int pairs[4];
};

template <typename T, int N> __device__ float get(const Pack<T, N> &x, int n) { return get(x.v, n); }
__device__ float get(const Pack<bf16, 8> &x, int n) {
    return number(n % 2 ? x.pairs[n / 2] & 0xffff0000u : x.pairs[n / 2] << 16);
}

// Of a pack they have to be put one after the other.
template <typename T, int N> __device__ void put(Pack<T, N> &x, int n, float value) { put(x.v, n, value); }
__device__ void put(Pack<bf16, 8> &x, int n, float value) {
    bf16 rounded;
    put(&rounded, 0, value);
    x.pairs[n / 2] = n % 2 ? x.pairs[n / 2] | (unsigned int)rounded.bits << 16 : rounded.bits;
}

// By a name of our own: CUDA has functions of many others.
#define KERNEL(name) extern "C" __global__ void overtrace_##name(Words a)
// A kernel for both kinds of numbers, from a template that takes the words and the thread's number.
#define BOTH(name)                                                                                                      \
    KERNEL(name##_f32) { THREAD(i); name<float>(a, i); }                                                                 \
    KERNEL(name##_bf16) { THREAD(i); name<bf16>(a, i); }
// Kernels for one number a thread, and for 16 bytes of them ("wide"), from a template that takes their type and how many; its
// channels, and the threads, are counted in as many.
#define WIDE_F32(name)                                                                                                  \
    KERNEL(name##_f32) { THREAD(i); name<float, 1>(a, i); }                                                              \
    KERNEL(name##_f32_wide) { THREAD(i); name<float, 4>(a, i); }
#define WIDE(name)                                                                                                      \
    WIDE_F32(name)                                                                                                      \
    KERNEL(name##_bf16) { THREAD(i); name<bf16, 1>(a, i); }                                                              \
    KERNEL(name##_bf16_wide) { THREAD(i); name<bf16, 8>(a, i); }
#define THREAD(i)                                                                                                       \
    const Size i = blockIdx.x * blockDim.x + threadIdx.x;                                                          \
    if (i >= a.w[0]) return
#define INPUT(T, name, n) const T *name = (const T *)a.w[n]
#define OUTPUT(T, name, n) T *name = (T *)a.w[n]
