public import Synchronization

/// One 64-bit cell of shared memory. One process writes it, any may read it.
///
/// With one writer, load and store are enough: 0.1 ns, where an atomic add costs 9.
public struct Cell: Sendable, Copyable {
    @usableFromInline nonisolated(unsafe) let pointer: UnsafeMutablePointer<Atomic<UInt64>>

    /// The cell at `pointer`, eight bytes on a multiple of eight.
    @inlinable
    public init(_ pointer: UnsafeMutablePointer<Atomic<UInt64>>) { self.pointer = pointer }

    /// Reads and writes that order nothing else: for counters and gauges.
    @inlinable public var value: UInt64 { pointer.pointee.load(ordering: .relaxed) }
    @inlinable public func set(_ value: UInt64) { pointer.pointee.store(value, ordering: .relaxed) }

    /// For the one writer: a second one would lose counts.
    @inlinable
    public func add(_ amount: UInt64 = 1) {
        pointer.pointee.store(
            pointer.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    /// For gauges. Below 0 it wraps.
    @inlinable public func subtract(_ amount: UInt64 = 1) { add(0 &- amount) }

    /// Keeps the largest value seen: a high-water mark.
    @inlinable
    public func raise(to value: UInt64) { if value > self.value { set(value) } }

    /// Sees everything that was written before the value was published.
    @inlinable public var acquired: UInt64 { pointer.pointee.load(ordering: .acquiring) }

    /// Shows the value, and everything written before it, to who reads `acquired`.
    @inlinable public func publish(_ value: UInt64) {
        pointer.pointee.store(value, ordering: .releasing)
    }
}

/// A row of cells named by an enum's cases.
public struct CounterRow<Name: RawRepresentable & CaseIterable & Sendable>: Sendable
where Name.RawValue == Int {
    @usableFromInline nonisolated(unsafe) let base: UnsafeMutablePointer<Atomic<UInt64>>

    /// The row at `base`, one cell for each case.
    @inlinable
    public init(_ base: UnsafeMutablePointer<Atomic<UInt64>>) { self.base = base }

    /// Takes room for one row of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan) {
        guard let base = plan.take(Atomic<UInt64>.self, count: Name.allCases.count) else {
            return nil
        }
        self.base = base
    }

    /// One name's cell. Raw values are 0 ..< the number of cases, as Swift numbers them by itself.
    @inlinable @inline(__always)
    public subscript(_ name: Name) -> Cell { Cell(base + name.rawValue) }

    /// Counts `amount` more for one name. For the one writer.
    @inlinable @inline(__always)
    public func add(_ name: Name, _ amount: UInt64 = 1) { self[name].add(amount) }

    /// What one name has counted.
    @inlinable
    public func value(_ name: Name) -> UInt64 { self[name].value }

    /// All cells, in the order of the cases.
    public var run: CellRun { CellRun(base, count: Name.allCases.count) }
}

/// Cells that lie side by side.
public struct CellRun: Sendable {
    private nonisolated(unsafe) let base: UnsafeMutablePointer<Atomic<UInt64>>
    /// How many there are.
    public let count: Int

    init(_ base: UnsafeMutablePointer<Atomic<UInt64>>, count: Int) {
        self.base = base
        self.count = count
    }

    /// The run of one cell.
    public init(_ cell: Cell) { self.init(cell.pointer, count: 1) }

    /// The cell at `place`, from 0. Traps beyond the run.
    public subscript(_ place: Int) -> Cell {
        precondition(place >= 0 && place < count)
        return Cell(base + place)
    }
}
