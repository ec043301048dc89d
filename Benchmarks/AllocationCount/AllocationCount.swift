// Counts heap allocations by standing in for libc's malloc: a definition in the executable comes
// first for every library that it loads, the Swift runtime's allocator included. This file imports
// nothing, as Glibc's own declaration of malloc would be in the way.

@_silgen_name("__libc_malloc")
private func libcMalloc(_ size: Int) -> UnsafeMutableRawPointer?
@_silgen_name("__libc_calloc")
private func libcCalloc(_ count: Int, _ size: Int) -> UnsafeMutableRawPointer?
@_silgen_name("__libc_realloc")
private func libcRealloc(_ old: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutableRawPointer?
@_silgen_name("__libc_memalign")
private func libcMemalign(_ alignment: Int, _ size: Int) -> UnsafeMutableRawPointer?

/// Allocations of the process so far. One thread runs here.
public nonisolated(unsafe) var allocationsTotal = 0

// The linker makes `malloc` another name of this (`--defsym` in Package.swift): the compiler
// reserves that name for itself.
/// `malloc(3)`, counted.
@c(umbra_counted_malloc)
public func countedMalloc(_ size: Int) -> UnsafeMutableRawPointer? {
    allocationsTotal &+= 1
    return libcMalloc(size)
}

/// `calloc(3)`, counted.
@c(calloc)
public func countedCalloc(_ count: Int, _ size: Int) -> UnsafeMutableRawPointer? {
    allocationsTotal &+= 1
    return libcCalloc(count, size)
}

/// `realloc(3)`, counted as one allocation, whether or not the memory moves.
@c(realloc)
public func countedRealloc(
    _ old: UnsafeMutableRawPointer?, _ size: Int
) -> UnsafeMutableRawPointer? {
    allocationsTotal &+= 1
    return libcRealloc(old, size)
}

/// `aligned_alloc(3)`, counted.
@c(aligned_alloc)
public func countedAlignedAlloc(_ alignment: Int, _ size: Int) -> UnsafeMutableRawPointer? {
    allocationsTotal &+= 1
    return libcMemalign(alignment, size)
}

/// `posix_memalign(3)`, counted; ENOMEM where there is no memory.
@c(posix_memalign)
public func countedPosixMemalign(
    _ place: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: Int, _ size: Int
) -> Int32 {
    allocationsTotal &+= 1
    place.pointee = libcMemalign(alignment, size)
    return place.pointee == nil ? 12 : 0  // ENOMEM
}
