public import CLinux

/// A system call that failed: which one, and why.
public struct SystemError: Error, Equatable, CustomStringConvertible {
    /// The call, and the error number that it left. Errors are equal where their numbers are.
    public let call: StaticString
    public let code: Int32

    /// The error that the last system call of this thread left.
    public init(_ call: StaticString, code: Int32 = umbra_errno()) {
        self.call = call
        self.code = code
    }

    public var description: String { "\(call): \(Self.text(code))" }

    /// The C library's sentence for an error number.
    public static func text(_ code: Int32) -> String { String(cString: strerror(code)) }

    public static func == (a: SystemError, b: SystemError) -> Bool { a.code == b.code }
}

/// The error number that the last system call of this thread left.
@inlinable @inline(__always)
public var lastErrno: Int32 { umbra_errno() }

/// The number a call returned, or a `SystemError` where it is negative.
@discardableResult
public func check(_ result: Int32, _ call: StaticString) throws(SystemError) -> Int32 {
    if result < 0 { throw SystemError(call) }
    return result
}
