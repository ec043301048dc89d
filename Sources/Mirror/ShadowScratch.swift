import CLinux
import CoreLoop

/// Buffers that hold something within one step only, and the list of connections with unread bytes.
struct ShadowScratch: ~Copyable {
    /// A head that lies in several slices, in one piece.
    let head: UnsafeMutableRawBufferPointer
    /// What is sent before and behind a body.
    let prefix: UnsafeMutableRawBufferPointer
    let suffix: UnsafeMutableRawBufferPointer
    /// Bytes of an answer.
    let input: UnsafeMutableRawBufferPointer
    let vectors: UnsafeMutablePointer<iovec>
    let slices: UnsafeMutablePointer<Slice>
    private let memory: SharedMemory

    private let unread: UnsafeMutablePointer<Token>
    private let unreadEnd: UnsafeMutablePointer<Int>
    private let unreadMax: Int

    init(connections: Int) throws(SystemError) {
        let sizes = [
            ShadowLimits.copyHeadBytesMax, ShadowLimits.prefixBytesMax, ShadowLimits.suffixBytesMax,
            ShadowLimits.readBytes,
        ]
        memory = try .plain(byteCount: sizes.reduce(0, +))
        var offset = 0
        var buffers: [UnsafeMutableRawBufferPointer] = []
        for size in sizes {
            buffers.append(UnsafeMutableRawBufferPointer(start: memory.base + offset, count: size))
            offset += size
        }
        head = buffers[0]
        prefix = buffers[1]
        suffix = buffers[2]
        input = buffers[3]
        vectors = .allocate(capacity: MirrorLimits.slicesPerCopyMax + 2)
        slices = .allocate(capacity: MirrorLimits.slicesPerCopyMax)
        // One entry for each connection, and one for a former life of its slot.
        unreadMax = 2 * connections
        unread = .allocate(capacity: unreadMax)
        unreadEnd = .allocate(capacity: 1)
        unreadEnd.initialize(to: 0)
    }

    deinit {
        vectors.deallocate()
        slices.deallocate()
        unread.deallocate()
        unreadEnd.deallocate()
    }

    var unreadCount: Int { unreadEnd.pointee }

    func addUnread(_ token: Token) {
        precondition(unreadCount < unreadMax, "a connection is in the list of unread ones twice")
        unread[unreadCount] = token
        unreadEnd.pointee += 1
    }

    func unread(_ index: Int) -> Token { unread[index] }

    /// Removes the first `count` tokens.
    func removeUnread(_ count: Int) {
        for index in count..<unreadCount { unread[index - count] = unread[index] }
        unreadEnd.pointee -= count
    }
}
