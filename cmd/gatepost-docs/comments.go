package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"

	"gatepost/proxy/config"
)

const module = "gatepost"

// readComments collects the comments of all fields of exported structs that have a `yaml` or `fact` tag.
func readComments(root string) (config.Comments, error) {
	comments := config.Comments{}
	for _, top := range []string{"filters", "policy", "proxy"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			folder, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			collect(comments, module+"/"+filepath.ToSlash(folder), file)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return comments, nil
}

func collect(comments config.Comments, importPath string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		structure, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range structure.Fields.List {
			text := strings.Join(strings.Fields(field.Doc.Text()+" "+field.Comment.Text()), " ")
			if text == "" || field.Tag == nil || !strings.Contains(field.Tag.Value, "yaml:") && !strings.Contains(field.Tag.Value, "fact:") {
				continue
			}
			for _, name := range field.Names {
				comments[importPath+"."+spec.Name.Name+"."+name.Name] = inTheManual(text, name.Name, field.Tag.Value)
			}
		}
		return true
	})
}

// inTheManual puts the key in the place of the field's name where a comment starts with one that only Go knows, such as
// ProxyFrom for proxy_from.
func inTheManual(text, field, tag string) string {
	tags := reflect.StructTag(strings.Trim(tag, "`"))
	key, _, _ := strings.Cut(tags.Get("yaml")+tags.Get("fact"), ",")
	if rest, ok := strings.CutPrefix(text, field+" "); ok && key != "" && !strings.EqualFold(key, field) {
		return key + " " + rest
	}
	return text
}
