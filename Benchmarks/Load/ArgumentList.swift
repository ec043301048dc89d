/// The arguments of a tool: options with a value (`--rate 4000`, `--rate=4000`), flags, words.
///
/// Options are taken one by one; what is left at the end is an error that names it.
public struct ArgumentList {
    /// What was wrong with the arguments, for the person who typed them.
    public struct Fault: Error, CustomStringConvertible {
        /// The sentence that the tool prints.
        public let description: String
        /// A fault with its sentence.
        public init(_ description: String) { self.description = description }
    }

    private var left: [String]

    /// The arguments without the program's own name.
    public init(_ arguments: [String]) {
        left = []
        for argument in arguments {
            // `--name=value` is `--name value`.
            if argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") {
                left.append(String(argument[..<equals]))
                left.append(String(argument[argument.index(after: equals)...]))
            } else {
                left.append(argument)
            }
        }
    }

    /// Whether `name` was given.
    public mutating func flag(_ name: String) -> Bool {
        guard let index = left.firstIndex(of: name) else { return false }
        left.remove(at: index)
        return true
    }

    /// The value after `name`; nil where the option was not given.
    public mutating func text(_ name: String) throws(Fault) -> String? {
        guard let index = left.firstIndex(of: name) else { return nil }
        guard index + 1 < left.count else { throw Fault("\(name) needs a value") }
        let value = left[index + 1]
        left.removeSubrange(index...index + 1)
        return value
    }

    /// All values of an option that may come several times.
    public mutating func texts(_ name: String) throws(Fault) -> [String] {
        var values: [String] = []
        while let value = try text(name) { values.append(value) }
        return values
    }

    /// A number at least `least`; `otherwise` where the option was not given.
    public mutating func number(_ name: String, least: Double = 0, otherwise: Double) throws(Fault)
        -> Double
    {
        guard let value = try text(name) else { return otherwise }
        guard let number = Double(value), number.isFinite, number >= least else {
            throw Fault("\(name) wants a number of at least \(least), not '\(value)'")
        }
        return number
    }

    /// A whole number at least `least`; `otherwise` where the option was not given.
    public mutating func integer(_ name: String, least: Int = 0, otherwise: Int) throws(Fault)
        -> Int
    {
        guard let value = try text(name) else { return otherwise }
        guard let number = Int(value), number >= least else {
            throw Fault("\(name) wants a whole number of at least \(least), not '\(value)'")
        }
        return number
    }

    /// The first word that is no option; nil where there is none. Take options first.
    public mutating func word() -> String? {
        guard let index = left.firstIndex(where: { !$0.hasPrefix("-") }) else { return nil }
        return left.remove(at: index)
    }

    /// Throws where anything was not asked for.
    public func finish() throws(Fault) {
        if let first = left.first { throw Fault("unknown argument '\(first)'; see --help") }
    }
}
