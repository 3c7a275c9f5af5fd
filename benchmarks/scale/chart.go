package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// palette is of Okabe and Ito, to be told apart by the colour-blind too.
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
}

var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}}

// draw writes the chart to a file, as SVG.
func (f *figure) draw(path string) error {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = f.Title, f.X, f.Y
	style(p)
	p.Add(grid())
	var ticks plot.ConstantTicks
	for _, n := range f.Sizes {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: short(n)})
	}
	p.X.Tick.Marker = ticks
	if f.Doubling {
		p.X.Scale = plot.LogScale{}
	}
	i := 0
	for _, c := range f.Curves {
		if c.Aside {
			continue
		}
		if err := f.line(p, c, i); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		i++
	}
	p.Y.Min, p.Y.Max = 0, p.Y.Max*1.2 // from 0, so that what looks flat is flat; above it the legend has its place
	return save(p, path)
}

func save(p *plot.Plot, path string) error {
	svg := vgsvg.New(18*vg.Centimeter, 11*vg.Centimeter)
	c := draw.New(svg)
	c.SetColor(p.BackgroundColor)
	c.Fill(c.Path())
	p.Draw(draw.Crop(c, 8, -14, 6, -8))
	var buf bytes.Buffer
	if _, err := svg.WriteTo(&buf); err != nil {
		return err
	}
	// Who looks at it may not have the font that the letters were measured with.
	text := bytes.ReplaceAll(buf.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	return os.WriteFile(path, text, 0o644)
}

func style(p *plot.Plot) {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	for of, size := range map[*font.Font]vg.Length{
		&p.Title.TextStyle.Font: 12, &p.X.Label.TextStyle.Font: 11, &p.Y.Label.TextStyle.Font: 11,
		&p.X.Tick.Label.Font: 10, &p.Y.Tick.Label.Font: 10, &p.Legend.TextStyle.Font: 11,
	} {
		*of = font.From(sans, size)
	}
	p.Title.Padding, p.X.Padding, p.Y.Padding = 8, 4, 4
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.YOffs, p.Legend.Padding = 8, -4, 3
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = color.Gray{0xe8}, color.Gray{0xe8}
	return g
}

// line adds a curve with bars from one quartile to the other.
func (f *figure) line(p *plot.Plot, c *curve, i int) error {
	var at bars
	for j, n := range f.Sizes {
		if point := c.Points[j]; point != nil {
			at.XYs = append(at.XYs, plotter.XY{X: float64(n), Y: point.Median})
			at.YErrors = append(at.YErrors, struct{ Low, High float64 }{point.Median - point.Low, point.High - point.Median})
		}
	}
	line, points, err := plotter.NewLinePoints(at.XYs)
	if err != nil {
		return err
	}
	line.Color, line.Width = palette[i], vg.Points(1.6)
	points.Color, points.Shape, points.Radius = palette[i], glyphs[i], vg.Points(2.8)
	spread, err := plotter.NewYErrorBars(at)
	if err != nil {
		return err
	}
	spread.Color = palette[i]
	p.Add(line, spread, points)
	p.Legend.Add(c.Name+", "+c.Unit+" (median, quartiles)", line, points)
	return nil
}

type bars struct {
	plotter.XYs
	plotter.YErrors
}
