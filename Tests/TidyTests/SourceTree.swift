import Foundation

/// All Swift files of the package.
enum SourceTree {
    /// The package's root: three folders above this file.
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let files: [SourceFile] = ["Sources", "Benchmarks", "Tests"].flatMap(files(in:))

    /// What ships: everything but the tests.
    static var shipped: [SourceFile] { files.filter { $0.folder != "Tests" } }

    static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    private static func files(in folder: String) -> [SourceFile] {
        let start = root.appendingPathComponent(folder)
        guard let walk = FileManager.default.enumerator(atPath: start.path) else { return [] }
        let paths = walk.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") }.sorted()
        return paths.compactMap { path in
            guard let text = try? text("\(folder)/\(path)") else { return nil }
            return SourceFile(path: "\(folder)/\(path)", text: text)
        }
    }
}
