import CLinux
import CoreLoop

/// Reads the lines of a segment, one after the other, in pieces that stay in the processor's
/// cache. By `pread`, not by a mapping: the writer may cut the file's tail meanwhile.
struct SegmentLines: ~Copyable {
    /// One line without its newline. Its bytes are good until the next one is asked for.
    struct Line {
        let bytes: UnsafeRawBufferPointer
        /// Where it begins in the file, and where the next one does.
        let offset: Int
        let end: Int
        /// False for what stands behind the last newline.
        let isComplete: Bool
        /// A piece of what is longer than a line can be: no writer of ours made it.
        var isTooLong: Bool { bytes.count > Limits.lineBytesMax }
    }

    private let fd: Int32
    private let buffer: UnsafeMutableRawBufferPointer
    /// Where `buffer`'s first byte stands in the file, and what of it is read and not yet given.
    private var fileOffset: Int
    private var start = 0
    private var filled = 0
    private let stop: Int

    /// Lines from `offset` on, of a descriptor that stays the caller's; nothing at or behind
    /// `stop` is read.
    init(_ fd: Int32, from offset: Int = 0, to stop: Int = .max) {
        self.fd = fd
        self.stop = stop
        fileOffset = offset
        buffer = .allocate(byteCount: Limits.lineBytesMax + Limits.readBytes, alignment: 64)
    }

    deinit { buffer.deallocate() }

    /// The next line; nil at the end.
    mutating func next() throws(SystemError) -> Line? {
        var scanned = start
        while true {
            if let found = memchr(buffer.baseAddress! + scanned, 0x0A, filled - scanned) {
                let end = UnsafeRawPointer(found) - UnsafeRawPointer(buffer.baseAddress!)
                return give(to: end, skipping: 1, isComplete: true)
            }
            scanned = filled
            if filled - start > Limits.lineBytesMax {
                // Given in pieces, none of which is a record.
                return give(to: filled, skipping: 0, isComplete: false)
            }
            if start > 0 {
                memmove(buffer.baseAddress!, buffer.baseAddress! + start, filled - start)
                fileOffset += start
                scanned -= start
                filled -= start
                start = 0
            }
            let isMore = try read()
            if !isMore {
                return filled > start ? give(to: filled, skipping: 0, isComplete: false) : nil
            }
        }
    }

    private mutating func give(to end: Int, skipping: Int, isComplete: Bool) -> Line {
        let line = Line(
            bytes: UnsafeRawBufferPointer(rebasing: buffer[start..<end]),
            offset: fileOffset + start, end: fileOffset + end + skipping, isComplete: isComplete)
        start = end + skipping
        return line
    }

    /// Reads more behind what is there; false at the end.
    private mutating func read() throws(SystemError) -> Bool {
        let room = min(Limits.readBytes, buffer.count - filled, stop - fileOffset - filled)
        guard room > 0 else { return false }
        while true {
            let count = pread(fd, buffer.baseAddress! + filled, room, fileOffset + filled)
            if count < 0 {
                if lastErrno == EINTR { continue }
                throw SystemError("read(segment)")
            }
            filled += count
            return count > 0
        }
    }
}
