import CLinux

/// A mapping of a memfd, or of plain memory for tests; unmapped when it goes.
public struct SharedMemory: ~Copyable {
    /// The first byte, on a page of its own, and how many bytes there are.
    public let base: UnsafeMutableRawPointer
    public let byteCount: Int
    /// The memfd; -1 for plain memory. Open until this value goes; inherited only where asked.
    public let fd: Int32

    private init(base: UnsafeMutableRawPointer, byteCount: Int, fd: Int32) {
        self.base = base
        self.byteCount = byteCount
        self.fd = fd
    }

    deinit {
        munmap(base, byteCount)
        if fd >= 0 { close(fd) }
    }

    /// A new memfd of `byteCount` zero bytes, mapped for reading and writing. Pages cost memory
    /// once touched. Its size is sealed: no process that it is handed to can take pages away under
    /// the others.
    public static func create(name: String, byteCount: Int) throws(SystemError) -> SharedMemory {
        let flags = UMBRA_MFD_CLOEXEC | UMBRA_MFD_ALLOW_SEALING
        let fd = try check(memfd_create(name, flags), "memfd_create")
        if ftruncate(fd, off_t(byteCount)) != 0
            || umbra_fcntl(fd, UMBRA_F_ADD_SEALS, UMBRA_SEAL_SIZE) != 0
        {
            let error = SystemError("ftruncate(memfd)")
            close(fd)
            throw error
        }
        return try map(fd: fd, byteCount: byteCount, writable: true)
    }

    /// Maps an inherited memfd; takes the descriptor over.
    public static func map(fd: Int32, byteCount: Int, writable: Bool) throws(SystemError)
        -> SharedMemory
    {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        guard let base = mmap(nil, byteCount, protection, MAP_SHARED, fd, 0),
            base != UnsafeMutableRawPointer(bitPattern: -1)
        else {
            let error = SystemError("mmap")
            close(fd)
            throw error
        }
        return SharedMemory(base: base, byteCount: byteCount, fd: fd)
    }

    /// Zeroed memory of this process alone, lazily paged in.
    public static func plain(byteCount: Int) throws(SystemError) -> SharedMemory {
        let flags = MAP_PRIVATE | Int32(MAP_ANONYMOUS)
        guard let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0),
            base != UnsafeMutableRawPointer(bitPattern: -1)
        else {
            throw SystemError("mmap")
        }
        return SharedMemory(base: base, byteCount: byteCount, fd: -1)
    }

    /// A second descriptor of the same memory that cannot be written through, for a process that
    /// may only read. The caller closes it, or hands it to `map`.
    public borrowing func openReadOnly() throws(SystemError) -> Int32 {
        try check(umbra_open("/proc/self/fd/\(fd)", O_RDONLY | O_CLOEXEC, 0), "open(memfd)")
    }
}

/// Hands out consecutive pieces of one memory, in the same order in every process that maps it.
public struct MemoryPlan {
    private let base: UnsafeMutableRawPointer?
    /// Bytes handed out so far, gaps included.
    public private(set) var byteCount = 0

    /// Without memory only the size is counted.
    public init(base: UnsafeMutableRawPointer? = nil) { self.base = base }

    /// The next `count` elements, on a cache line of their own; nil while only counting.
    public mutating func take<T: ~Copyable>(_ type: T.Type, count: Int) -> UnsafeMutablePointer<T>?
    {
        byteCount = (byteCount + 63) & ~63
        defer { byteCount += MemoryLayout<T>.stride * count }
        guard let base else { return nil }
        return (base + byteCount).assumingMemoryBound(to: T.self)
    }

    /// Moves on to the next page.
    public mutating func alignToPage() { byteCount = (byteCount + 4_095) & ~4_095 }
}
