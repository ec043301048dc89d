import CLinux
import CoreLoop
import HTTP

/// The memory of all connections of a shadow process: mapped at start for as many as the
/// in-flight limits allow, resident as far as it was used.
struct ShadowPool: ~Copyable {
    let connections: Slab<ShadowConnection>
    /// By connection: the slices of its copy.
    private let sliceMemory: SharedMemory
    /// By connection: the decoder of its answer.
    private let readers: UnsafeMutablePointer<ChunkedReader>
    /// Heads of answers that came in parts. Rarely needed, as nearly all come in one.
    private let residueMemory: SharedMemory
    private let freeResidues: UnsafeMutablePointer<Int32>
    private let freeResidueCount: UnsafeMutablePointer<Int>

    private static let pageBytes = 4_096

    init(connections capacity: Int) throws(SystemError) {
        // Whatever throws comes first: half of a noncopyable value cannot be given up.
        let slab = try Slab<ShadowConnection>(capacity: capacity)
        let slices = try SharedMemory.plain(
            byteCount: capacity * MirrorLimits.slicesPerCopyMax * MemoryLayout<Slice>.stride)
        let residues = try SharedMemory.plain(
            byteCount: capacity * ShadowLimits.answerHeadBytesMax)
        connections = slab
        sliceMemory = slices
        residueMemory = residues
        readers = .allocate(capacity: capacity)
        readers.initialize(repeating: ChunkedReader(), count: capacity)
        freeResidues = .allocate(capacity: capacity)
        for index in 0..<capacity { freeResidues[index] = Int32(capacity - 1 - index) }
        freeResidueCount = .allocate(capacity: 1)
        freeResidueCount.initialize(to: capacity)
    }

    deinit {
        readers.deallocate()
        freeResidues.deallocate()
        freeResidueCount.deallocate()
    }

    /// Room for `MirrorLimits.slicesPerCopyMax` slices.
    func slices(_ slot: Int) -> UnsafeMutablePointer<Slice> {
        sliceMemory.base.assumingMemoryBound(to: Slice.self)
            + slot * MirrorLimits.slicesPerCopyMax
    }

    func reader(_ slot: Int) -> UnsafeMutablePointer<ChunkedReader> { readers + slot }

    /// A buffer of `ShadowLimits.answerHeadBytesMax` bytes. There are as many as connections, and
    /// each holds at most one.
    func takeResidue() -> Int32 {
        precondition(freeResidueCount.pointee > 0, "a connection took two buffers")
        freeResidueCount.pointee -= 1
        return freeResidues[freeResidueCount.pointee]
    }

    func residue(_ index: Int32) -> UnsafeMutableRawPointer {
        residueMemory.base + Int(index) * ShadowLimits.answerHeadBytesMax
    }

    func giveBackResidue(_ index: Int32, usedBytes: Int) {
        // A shadow that sends long heads in drops must not leave its mark on the memory.
        if usedBytes > Self.pageBytes {
            _ = madvise(residue(index), ShadowLimits.answerHeadBytesMax, MADV_DONTNEED)
        }
        freeResidues[freeResidueCount.pointee] = index
        freeResidueCount.pointee += 1
    }

    /// Buffers that are in use.
    var residuesTaken: Int { connections.capacity - freeResidueCount.pointee }
}
