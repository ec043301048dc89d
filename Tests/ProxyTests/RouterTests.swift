import HTTP
import Testing

@testable import Proxy

@Suite struct RouterTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let head: String
        let route: Int
        var testDescription: String { head.prefix { $0 != "\r" } + " → \(route)" }
    }

    private static func get(
        _ path: String, host: String = "x", method: String = "GET",
        _ fields: String = ""
    ) -> String {
        "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\n\(fields)\r\n"
    }

    private static func matches(_ change: (inout RouteSettings) -> Void, _ head: String) throws
        -> Bool
    {
        var route = RouteSettings(name: "r", target: 0)
        change(&route)
        let router = Router([route, RouteSettings(name: "default", target: 0)])
        let request = try ParsedRequest(head)
        return request.source.withUnsafeBytes {
            router.route(request.head, $0.baseAddress!) == 0
        }
    }

    struct HostRow: Sendable {
        let pattern: String
        let host: String
        let matches: Bool
        init(_ pattern: String, _ host: String, _ matches: Bool) {
            (self.pattern, self.host, self.matches) = (pattern, host, matches)
        }
    }

    @Test(arguments: [
        HostRow("a.test", "a.test", true), HostRow("a.test", "A.TesT", true),
        HostRow("a.test", "a.test:80", true), HostRow("a.test", "a.test:", true),
        HostRow("a.test", "a.test.", false), HostRow("a.test", "ba.test", false),
        HostRow("a.test", "a.tes", false), HostRow("a.test", "test", false),
        HostRow("127.0.0.1", "127.0.0.1:8080", true),
        HostRow("[::1]", "[::1]", true), HostRow("[::1]", "[::1]:443", true),
        HostRow("[::1]", "[::2]:443", false), HostRow("[::1]", "1", false),
        HostRow("*.a.test", "b.a.test", true), HostRow("*.a.test", "c.b.A.test:1", true),
        HostRow("*.a.test", "a.test", false), HostRow("*.a.test", ".a.test", false),
        HostRow("*.a.test", "ba.test", false), HostRow("*.a.test", "b.a.test.evil", false),
    ])
    func hosts(_ row: HostRow) throws {
        #expect(
            try Self.matches({ $0.host = row.pattern }, Self.get("/", host: row.host))
                == row.matches)
    }

    struct PathRow: Sendable {
        let path: RouteSettings.PathMatch
        let target: String
        let matches: Bool
        init(_ path: RouteSettings.PathMatch, _ target: String, _ matches: Bool) {
            (self.path, self.target, self.matches) = (path, target, matches)
        }
    }

    @Test(arguments: [
        PathRow(.exact("/a"), "/a", true), PathRow(.exact("/a"), "/a?b=/c", true),
        PathRow(.exact("/a"), "/a/", false), PathRow(.exact("/a"), "/A", false),
        PathRow(.exact("/a"), "/", false), PathRow(.exact("/a"), "/%61", false),
        PathRow(.prefix("/a"), "/a", true), PathRow(.prefix("/a"), "/ab", true),
        PathRow(.prefix("/a/"), "/a", false), PathRow(.prefix("/a/"), "/a/b", true),
        PathRow(.prefix("/a"), "/b?/a", false), PathRow(.prefix("/"), "/", true),
        PathRow(.any, "/whatever", true), PathRow(.exact("/a"), "http://h.test/a?x", true),
        PathRow(.prefix("/a"), "http://h.test/ab", true),
        PathRow(.exact("/a"), "http://h.test", false),
    ])
    func paths(_ row: PathRow) throws {
        #expect(try Self.matches({ $0.path = row.path }, Self.get(row.target)) == row.matches)
    }

    @Test(arguments: [
        (["GET"], "GET", true), (["GET", "POST"], "POST", true), (["GET"], "HEAD", false),
        (["GET"], "GETT", false), (["PURGE"], "PURGE", true), ([], "BREW", true),
    ])
    func methods(_ allowed: [String], _ method: String, _ matches: Bool) throws {
        let head = Self.get("/", method: method)
        #expect(try Self.matches({ $0.methods = allowed }, head) == matches)
    }

    @Test(
        arguments: [
            ("x-a", nil, "X-A: 1\r\n", true), ("x-a", nil, "", false),
            ("x-a", "1", "x-a: 1\r\n", true), ("x-a", "1", "X-A: 2\r\n", false),
            ("x-a", "1", "X-A: 2\r\nX-A: 1\r\n", true), ("x-a", "1", "X-AB: 1\r\n", false),
            ("x-a", "V", "X-A: v\r\n", false), ("host", "x", "", true),
        ] as [(String, String?, String, Bool)])
    func fields(_ name: String, _ value: String?, _ lines: String, _ matches: Bool) throws {
        let head = Self.get("/", lines)
        let condition = RouteSettings.HeaderMatch(name: name, value: value)
        #expect(try Self.matches({ $0.headers = [condition] }, head) == matches)
    }

    @Test func theFirstMatchWinsAndTheLastTakesTheRest() throws {
        var first = RouteSettings(name: "a", target: 0)
        first.path = .prefix("/a")
        var second = RouteSettings(name: "b", target: 0)
        second.path = .prefix("/a/b")
        let router = Router([first, second, RouteSettings(name: "rest", target: 0)])
        for (path, route) in [("/a/b", 0), ("/b", 2), ("*", 2)] {
            let method = path == "*" ? "OPTIONS" : "GET"
            let request = try ParsedRequest(Self.get(path, method: method))
            let found = request.source.withUnsafeBytes {
                router.route(request.head, $0.baseAddress!)
            }
            #expect(found == route)
        }
    }
}
