import CLinux
import CoreLoop
import Glibc
import Testing

@Suite struct SharedMemoryTests {
    @Test func twoMappingsShowTheSameBytes() throws {
        let memory = try SharedMemory.create(name: "shared", byteCount: 8_192)
        let readOnly = try memory.openReadOnly()
        let view = try SharedMemory.map(fd: readOnly, byteCount: 8_192, writable: false)
        #expect(view.base != memory.base)
        for (offset, value) in [(0, 1), (4_096, 2), (8_184, 3)] {
            memory.base.storeBytes(of: UInt64(value), toByteOffset: offset, as: UInt64.self)
            #expect(view.base.load(fromByteOffset: offset, as: UInt64.self) == UInt64(value))
        }
    }

    @Test func aReadOnlyMappingRefusesWrites() async {
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            signal(SIGSEGV, SIG_DFL)
            let memory = try SharedMemory.create(name: "sealed", byteCount: 4_096)
            let fd = try memory.openReadOnly()
            let view = try SharedMemory.map(fd: fd, byteCount: 4_096, writable: false)
            // A read must be fine; the write must end the process.
            if view.base.load(as: UInt8.self) == 0 { view.base.storeBytes(of: 1, as: UInt8.self) }
        }
    }

    @Test func aReadOnlyDescriptorGivesNoWayToWrite() throws {
        let memory = try SharedMemory.create(name: "sealed", byteCount: 4_096)
        let first = try memory.openReadOnly()
        #expect(throws: SystemError("mmap", code: EACCES)) {
            _ = try SharedMemory.map(fd: first, byteCount: 4_096, writable: true)
        }
        let second = try memory.openReadOnly()
        let view = try SharedMemory.map(fd: second, byteCount: 4_096, writable: false)
        #expect(mprotect(view.base, 4_096, PROT_READ | PROT_WRITE) == -1)
        #expect(errno == EACCES)
        var byte: UInt8 = 1
        #expect(pwrite(second, &byte, 1, 0) == -1)
    }

    @Test func descriptorsAreClosedOnExecAndAtTheEnd() throws {
        var fd: Int32 = -1
        do {
            let memory = try SharedMemory.create(name: "closing", byteCount: 4_096)
            fd = memory.fd
            #expect(umbra_fcntl(fd, F_GETFD, 0) == FD_CLOEXEC)
            let readOnly = try memory.openReadOnly()
            #expect(umbra_fcntl(readOnly, F_GETFD, 0) == FD_CLOEXEC)
            close(readOnly)
            #expect(readFile("/proc/self/maps").contains("/memfd:closing"))
        }
        #expect(!readFile("/proc/self/maps").contains("/memfd:closing"))
    }

    @Test func plainMemoryIsZeroAndItsOwn() throws {
        let memory = try SharedMemory.plain(byteCount: 1 << 20)
        let bytes = UnsafeRawBufferPointer(start: memory.base, count: memory.byteCount)
        #expect(memory.fd == -1 && bytes.allSatisfy { $0 == 0 })
    }

    @Test func impossibleSizesAreErrors() {
        #expect(throws: SystemError.self) { _ = try SharedMemory.plain(byteCount: 0) }
        #expect(throws: SystemError.self) { _ = try SharedMemory.plain(byteCount: 1 << 60) }
        #expect(throws: SystemError.self) {
            _ = try SharedMemory.create(name: "large", byteCount: .max)
        }
        #expect(throws: SystemError("mmap", code: EBADF)) {
            _ = try SharedMemory.map(fd: -1, byteCount: 4_096, writable: true)
        }
    }

    /// Counting and handing out must agree, or two processes would see different places.
    @Test(arguments: UInt64(1)...6)
    func aPlanCountsWhatItHandsOut(seed: UInt64) throws {
        func walk(_ plan: inout MemoryPlan) -> [(start: UInt, bytes: Int)] {
            var random = FastRandom(seed: seed)
            var pieces: [(start: UInt, bytes: Int)] = []
            for _ in 0..<50 {
                let count = Int(random.next() % 100)
                let kind = random.next() % 3
                if kind == 0 {
                    let piece = plan.take(UInt8.self, count: count)
                    pieces.append((UInt(bitPattern: piece), count))
                } else if kind == 1 {
                    let piece = plan.take(Slice.self, count: count)
                    pieces.append((UInt(bitPattern: piece), count * MemoryLayout<Slice>.stride))
                } else {
                    plan.alignToPage()
                    let piece = plan.take(UInt64.self, count: count)
                    pieces.append((UInt(bitPattern: piece), count * 8))
                    #expect(UInt(bitPattern: piece) % 4_096 == 0)
                }
            }
            return pieces
        }
        var counting = MemoryPlan()
        #expect(walk(&counting).allSatisfy { $0.start == 0 })
        let memory = try SharedMemory.plain(byteCount: counting.byteCount)
        var plan = MemoryPlan(base: memory.base)
        let pieces = walk(&plan)
        #expect(plan.byteCount == counting.byteCount)
        var end = UInt(bitPattern: memory.base)
        for piece in pieces {
            #expect(piece.start >= end && piece.start % 64 == 0)
            end = piece.start + UInt(piece.bytes)
        }
        #expect(end <= UInt(bitPattern: memory.base) + UInt(memory.byteCount))
    }
}
