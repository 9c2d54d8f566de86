"""A recipe: one YAML file that says what to graft onto what. Strict, and checked before any work."""

from lingraft.recipe.load import load_recipe, recipe_yaml
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stage import Stage
from lingraft.recipe.text import CorpusEntry

__all__ = ["CorpusEntry", "Recipe", "Stage", "load_recipe", "recipe_yaml"]
