import CoreLoop
import Glibc

/// The arithmetic that turns measured values into statements. Pure.
public enum Statistics {
    /// The value in the middle; the mean of the two in the middle; nil for nothing.
    public static func median(_ values: [Double]) -> Double? {
        guard !values.isEmpty else { return nil }
        return medianOfSorted(values.sorted())
    }

    private static func medianOfSorted(_ sorted: [Double]) -> Double {
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// A confidence interval of the median by the percentile bootstrap (Efron 1979): the median of
    /// `resamples` samples drawn with replacement, cut at both ends. Repeatable by its seed.
    /// nil for fewer than two values: one round says nothing of its own spread.
    public static func medianInterval(
        _ values: [Double], level: Double = 0.95, resamples: Int = 10_000, seed: UInt64 = 1
    ) -> (low: Double, high: Double)? {
        guard values.count >= 2, resamples > 0 else { return nil }
        var random = FastRandom(seed: seed)
        var medians: [Double] = []
        medians.reserveCapacity(resamples)
        var sample = values
        for _ in 0..<resamples {
            for index in sample.indices {
                sample[index] = values[Int.random(in: 0..<values.count, using: &random)]
            }
            medians.append(medianOfSorted(sample.sorted()))
        }
        medians.sort()
        let tail = (1 - level) / 2
        let low = Int((tail * Double(resamples)).rounded(.down))
        let high = resamples - 1 - low
        return (medians[low], medians[max(low, high)])
    }

    /// The most events in any half-open window [t, t + `windowNs`). `times` need not be sorted.
    public static func mostInWindow(_ times: [UInt64], windowNs: UInt64) -> Int {
        let sorted = times.sorted()
        var first = 0
        var most = 0
        for last in sorted.indices {
            while sorted[last] - sorted[first] >= windowNs { first += 1 }
            most = max(most, last - first + 1)
        }
        return most
    }

    /// Pearson's statistic of counts against what was expected of them, and the chance of one as
    /// large or larger where nothing but chance is at work. Classes of which nothing is expected
    /// are left out. nil for fewer than two classes.
    public static func chiSquared(observed: [Double], expected: [Double]) -> (
        value: Double, p: Double
    )? {
        precondition(observed.count == expected.count)
        var value = 0.0
        var classes = 0
        for (seen, wanted) in zip(observed, expected) where wanted > 0 {
            value += (seen - wanted) * (seen - wanted) / wanted
            classes += 1
        }
        guard classes >= 2 else { return nil }
        return (value, upperGamma(shape: Double(classes - 1) / 2, from: value / 2))
    }

    /// The regularised upper incomplete gamma function Q(a, x) (Numerical Recipes, 6.2): by its
    /// series below a + 1, by Lentz's continued fraction above.
    static func upperGamma(shape a: Double, from x: Double) -> Double {
        guard x > 0 else { return 1 }
        let factor = exp(-x + a * log(x) - lgamma(a))
        if x < a + 1 {
            var term = 1 / a
            var sum = term
            var n = a
            for _ in 0..<1_000 {
                n += 1
                term *= x / n
                sum += term
                if abs(term) < abs(sum) * 1e-14 { break }
            }
            return 1 - sum * factor
        }
        let tiny = 1e-300
        var b = x + 1 - a
        var c = 1 / tiny
        var d = 1 / b
        var fraction = d
        for step in 1...1_000 {
            let i = Double(step)
            let an = -i * (i - a)
            b += 2
            d = an * d + b
            if abs(d) < tiny { d = tiny }
            c = b + an / c
            if abs(c) < tiny { c = tiny }
            d = 1 / d
            let change = d * c
            fraction *= change
            if abs(change - 1) < 1e-14 { break }
        }
        return fraction * factor
    }
}
