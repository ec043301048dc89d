public import Synchronization

/// A log-linear histogram of nanoseconds (the layout of HdrHistogram): each octave is cut in
/// 2^`bits` buckets, so that a value is off by at most 1/2^bits. One writer, any readers.
public struct Histogram: Sendable {
    /// 1.6 % resolution: enough to tell a P99 ratio of 1.05.
    public static let bits = 6
    /// Values from 2^36 ns (68 s) on are counted in the last bucket.
    public static let octaves = 36
    public static let bucketCount = (octaves - bits + 1) << bits
    /// Cells of one histogram: its buckets, then the sum of its values.
    public static let cellCount = bucketCount + 1

    @usableFromInline nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

    /// The histogram at `cells`, `cellCount` of them.
    @inlinable
    public init(_ cells: UnsafeMutablePointer<Atomic<UInt64>>) { self.cells = cells }

    /// Takes room for one histogram of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan) {
        guard let cells = plan.take(Atomic<UInt64>.self, count: Self.cellCount) else { return nil }
        self.cells = cells
    }

    /// The bucket that counts `nanoseconds`, below `bucketCount`.
    @inlinable
    public static func bucket(of nanoseconds: UInt64) -> Int {
        let sub = UInt64(1) << UInt64(bits)
        if nanoseconds < sub { return Int(nanoseconds) }
        let exponent = 63 &- nanoseconds.leadingZeroBitCount
        if exponent >= octaves { return bucketCount - 1 }
        let shift = exponent &- bits
        return (shift &+ 1) << bits | Int((nanoseconds >> UInt64(shift)) & (sub &- 1))
    }

    /// The least value of a bucket, nanoseconds.
    public static func lowerBound(of bucket: Int) -> UInt64 {
        let sub = 1 << bits
        if bucket < sub { return UInt64(bucket) }
        let shift = (bucket >> bits) - 1
        return UInt64(sub | (bucket & (sub - 1))) << UInt64(shift)
    }

    /// Counts one value. For the one writer.
    @inlinable
    public func record(_ nanoseconds: UInt64) {
        Cell(cells + Self.bucket(of: nanoseconds)).add()
        Cell(cells + Self.bucketCount).add(nanoseconds)
    }

    /// All cells: the buckets, then the sum.
    public var run: CellRun { CellRun(cells, count: Self.cellCount) }

    /// What is counted now. While the writer goes on, the sum may be ahead of the counts by a few.
    public func snapshot() -> HistogramSnapshot {
        var counts = [UInt64](repeating: 0, count: Self.bucketCount)
        for index in 0..<Self.bucketCount { counts[index] = Cell(cells + index).value }
        return HistogramSnapshot(counts: counts, sumNs: Cell(cells + Self.bucketCount).value)
    }
}

/// A histogram's counts at one moment; snapshots add up and subtract.
public struct HistogramSnapshot: Sendable, Equatable {
    /// The count of each bucket, and the sum of all values.
    public private(set) var counts: [UInt64]
    public private(set) var sumNs: UInt64

    public init() {
        self.init(counts: [UInt64](repeating: 0, count: Histogram.bucketCount), sumNs: 0)
    }

    init(counts: [UInt64], sumNs: UInt64) {
        self.counts = counts
        self.sumNs = sumNs
    }

    /// All values.
    public var count: UInt64 { counts.reduce(0, &+) }

    /// Adds what another histogram counted.
    public mutating func add(_ other: HistogramSnapshot) {
        for index in counts.indices { counts[index] &+= other.counts[index] }
        sumNs &+= other.sumNs
    }

    /// What came since `earlier`, a snapshot of the same histogram.
    public func since(_ earlier: HistogramSnapshot) -> HistogramSnapshot {
        var result = self
        for index in counts.indices { result.counts[index] &-= earlier.counts[index] }
        result.sumNs &-= earlier.sumNs
        return result
    }

    /// The value below which the share `quantile` (0 to 1) lies, nanoseconds, interpolated within
    /// its bucket; nil where nothing was recorded.
    public func value(at quantile: Double) -> Double? {
        let total = count
        guard total > 0 else { return nil }
        let rank = max(quantile * Double(total), 0.5)
        var below: UInt64 = 0
        for (bucket, inBucket) in counts.enumerated() where inBucket > 0 {
            if Double(below + inBucket) >= rank {
                let low = Double(Histogram.lowerBound(of: bucket))
                let high = Double(Histogram.lowerBound(of: bucket + 1))
                return low + (high - low) * (rank - Double(below)) / Double(inBucket)
            }
            below += inBucket
        }
        return Double(Histogram.lowerBound(of: Histogram.bucketCount))
    }

    /// How many values are at most `nanoseconds`, to the bucket's resolution.
    public func count(atMost nanoseconds: UInt64) -> UInt64 {
        counts[...Histogram.bucket(of: nanoseconds)].reduce(0, &+)
    }
}
